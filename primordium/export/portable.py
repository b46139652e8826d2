"""Forms of runtime functions that the ONNX exporter can translate, for the files that are written.

ONNX has no stable sort and no cumulative maximum. Its TopK keeps ties in order of position and its ArgMax
takes the first, which torch's own do not promise; so these forms stand in an ONNX export only.
"""

import torch
from torch import Tensor

from primordium.kernels.torch_runtime import flat_axis, unflat_axis


def argsort(x: Tensor, shape: tuple[int, ...], axis: tuple[int, ...], descending: bool) -> Tensor:
    """Positions that sort, stable; as numbers of the value's dtype."""
    flat = flat_axis(x.detach(), shape, axis)
    if torch.onnx.is_in_onnx_export():  # its sort is stable, but has no word for it
        order = flat.sort(dim=-1, descending=descending).indices
    else:
        order = flat.argsort(stable=True, dim=-1, descending=descending)
    return unflat_axis(order.to(x.dtype), shape, axis)


def cumargmax(x: Tensor, shape: tuple[int, ...], axis: tuple[int, ...]) -> Tensor:
    """Position of the largest value so far, the first at ties."""
    flat = flat_axis(x.detach(), shape, axis)
    places = torch.arange(flat.shape[-1], device=x.device)
    if torch.onnx.is_in_onnx_export():  # it has no cumulative maximum, but the first at ties
        so_far = places <= places.unsqueeze(-1)
        first = torch.where(so_far, flat.unsqueeze(-2), float("-inf")).argmax(-1)
    else:
        highest = flat.cummax(-1).values
        previous = torch.cat([torch.full_like(highest[..., :1], float("-inf")), highest[..., :-1]], -1)
        first = torch.where(highest > previous, places.expand(flat.shape), 0).cummax(-1).values
    return unflat_axis(first.to(x.dtype), shape, axis)
