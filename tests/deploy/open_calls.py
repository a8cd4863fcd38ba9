#!/usr/bin/env python3
"""Calls that are open at servers: open_calls.py SAMPLES ADDRESS...

Asks the admin listener of each ADDRESS, all of them SAMPLES times with a pause between. Prints the sum of the
samples for each, as JSON.
"""
import json
import re
import sys
import time
import urllib.request

PAUSE_S = 0.3
GAUGES = re.compile(r"^sluice_sequences_(?:running|waiting)\{.*\} (\d+)", re.MULTILINE)


def num_open(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as page:
        return sum(map(int, GAUGES.findall(page.read().decode())))


def main():
    num_samples, addresses = int(sys.argv[1]), sys.argv[2:]
    sums = [0] * len(addresses)
    for index in range(num_samples):
        time.sleep(PAUSE_S if index else 0)
        sums = [before + num_open(address) for before, address in zip(sums, addresses)]
    print(json.dumps(sums))


if __name__ == "__main__":
    main()
