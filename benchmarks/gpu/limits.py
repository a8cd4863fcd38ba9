#!/usr/bin/env python3
"""What the GPU can do, through torch: a copy in its memory, and products of bf16 matrices.

    limits.py        one JSON object: {"copy_gb_per_s", "products": [{"m","n","k","tflops"}], ...}

The products are a large square and those of 4,096 rows with the matrices of Llama 3.1 8B, of random
numbers (zeros run faster); the best of all is what prefills are compared with.
"""

import json
import statistics

import torch

COPIED_BYTES = 1 << 30
PRODUCTS = ((8192, 8192, 8192), (4096, 6144, 4096), (4096, 4096, 4096), (4096, 28672, 4096),
            (4096, 4096, 14336))
TIMES, ROW_MS = 5, 30


def row_ms(call, count):
    """Milliseconds of one call, of `count` in a row."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / count


def median_ms(call):
    row_ms(call, 3)
    count = max(3, int(ROW_MS / row_ms(call, 3)))
    return statistics.median(row_ms(call, count) for _ in range(TIMES))


def copy_gb_per_s():
    source = torch.randint(256, (COPIED_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2e-6 * COPIED_BYTES / median_ms(lambda: target.copy_(source))


def product_tflops(m, n, k):
    left = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
    right = torch.randn(n, k, dtype=torch.bfloat16, device="cuda").t()
    out = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    return 2e-9 * m * n * k / median_ms(lambda: torch.matmul(left, right, out=out))


def main():
    products = [{"m": m, "n": n, "k": k, "tflops": product_tflops(m, n, k)}
                for m, n, k in PRODUCTS]
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                      "copy_gb_per_s": copy_gb_per_s(), "products": products,
                      "bf16_tflops": max(each["tflops"] for each in products)}))


if __name__ == "__main__":
    main()
