"""Converts a Hugging Face folder for CTranslate2; run in its environment.

    ctranslate2_checkpoint.py HF_FOLDER FOLDER bf16|int8
"""

import sys

import ctranslate2

QUANTIZATIONS = {"bf16": "bfloat16", "int8": "int8"}


def main():
    source, folder, precision = sys.argv[1:]
    converter = ctranslate2.converters.TransformersConverter(source, load_as_float16=False,
                                                             low_cpu_mem_usage=True)
    converter.convert(folder, quantization=QUANTIZATIONS[precision])


if __name__ == "__main__":
    main()
