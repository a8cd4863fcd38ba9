"""Converts a Hugging Face folder for OpenVINO GenAI; run in its environment.

    openvino_checkpoint.py HF_FOLDER FOLDER bf16|int8|int4

bf16 keeps 16-bit weights (as fp16; the arithmetic is bf16 where the machine has it), int8 is one
scale a channel, int4 one scale for 128 weights: the defaults of optimum-cli's --weight-format.
"""

import sys

from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

CONFIGS = {
    "bf16": None,
    "int8": OVWeightQuantizationConfig(bits=8, sym=False),
    "int4": OVWeightQuantizationConfig(bits=4, sym=False, group_size=128, ratio=1.0),
}


def main():
    source, folder, precision = sys.argv[1:]
    model = OVModelForCausalLM.from_pretrained(source, export=True, compile=False,
                                               load_in_8bit=False,
                                               quantization_config=CONFIGS[precision])
    if precision == "bf16":
        model.half()
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
