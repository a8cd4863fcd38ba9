#!/usr/bin/env python3
"""One stream of server-sent events: sse.py HOST PORT TOKENS. Prints how it came, as JSON."""
import http.client
import json
import sys
import time


def main():
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
    body = {"prompt": "The moon", "max_tokens": int(sys.argv[3]), "stream": True, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    times, last = [], b""
    for line in iter(answer.readline, b""):
        if line.startswith(b"data: "):
            times.append(time.monotonic())
            last = line.strip()
    print(json.dumps({"status": answer.status, "type": answer.getheader("Content-Type"),
                      "events": len(times), "seconds": times[-1] - times[0],
                      "is_whole": last == b"data: [DONE]"}))


if __name__ == "__main__":
    main()
