"""What a model contains and asks for: parameters, stored bytes, MACs and bytes moved."""

from steelyard.counts.macs import LayerCount, MacCount, coverage, flop_counter_macs, module_macs
from steelyard.counts.onnx_macs import executed_macs, onnx_macs
from steelyard.counts.openvino_macs import openvino_macs
from steelyard.counts.parameters import module_parameters, onnx_parameters, openvino_parameters, stored_bytes

__all__ = [
    "LayerCount",
    "MacCount",
    "coverage",
    "executed_macs",
    "flop_counter_macs",
    "module_macs",
    "module_parameters",
    "onnx_macs",
    "onnx_parameters",
    "openvino_macs",
    "openvino_parameters",
    "stored_bytes",
]
