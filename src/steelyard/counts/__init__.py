"""What a model contains and asks for: parameters, stored bytes, MACs and bytes moved."""

from steelyard.counts.macs import LayerCount, MacCount, coverage, module_macs
from steelyard.counts.onnx_macs import onnx_macs
from steelyard.counts.openvino_macs import openvino_macs
from steelyard.counts.parameters import module_parameters, onnx_parameters, openvino_parameters, stored_bytes

__all__ = [
    "LayerCount",
    "MacCount",
    "coverage",
    "module_macs",
    "module_parameters",
    "onnx_macs",
    "onnx_parameters",
    "openvino_macs",
    "openvino_parameters",
    "stored_bytes",
]
