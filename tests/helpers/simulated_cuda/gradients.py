"""Backward pass in Python: torch's own asks the driver for streams."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

_engine = torch.autograd._engine_run_backward


def backward(roots, grads, keep, create, inputs, *args, **options):
    """Compute gradients as `torch.autograd._engine_run_backward` does, and by it if all tensors are on the CPU."""
    if any(isinstance(root, Tensor) and not root.requires_grad for root in roots):
        raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
    edges, wanted = [_edge(root) for root in roots], [_edge(one) for one in inputs]
    n_missing = Counter()  # number of gradients that each node waits for
    held = {node: {} for node, _ in edges}  # gradients so far, by output of each node
    stack = list(held)
    while stack:
        for node, _ in stack.pop().next_functions:
            n_missing[node] += 1
            if node is not None and node not in held:
                held[node] = {}
                stack.append(node)
    if not any(one.device.type == "cuda" for node in held for one in node._input_metadata):
        return _engine(roots, grads, keep, create, inputs, *args, **options)
    caught = {}
    with torch.set_grad_enabled(create):
        for edge, grad in zip(edges, grads, strict=True):
            _add(held, edge, grad)
        ready = [node for node in dict.fromkeys(node for node, _ in edges) if not n_missing[node]]
        while ready:
            node = ready.pop()
            by_output = held.pop(node)
            caught.update({(node, place): grad for place, grad in by_output.items() if (node, place) in wanted})
            found = _apply(node, by_output, options["accumulate_grad"] and (not wanted or (node, 0) in wanted))
            for place, edge in enumerate(node.next_functions):
                _add(held, edge, found[place] if place < len(found) else None)
                n_missing[edge[0]] -= 1
                ready += [edge[0]] if edge[0] is not None and not n_missing[edge[0]] else []
    if args and not args[0] and any(edge not in caught for edge in wanted):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph")
    return tuple(caught.get(edge) for edge in wanted)


def _apply(node, by_output, accumulates):
    """Return the gradients that a node passes on."""
    if not by_output:
        return ()
    given = [by_output.get(place) for place in range(len(node._input_metadata))]
    if hasattr(node, "variable"):  # a leaf
        for hook in (node.variable._backward_hooks or {}).values():
            given[0] = given[0] if (changed := hook(given[0])) is None else changed
        if accumulates:
            node(given[0])
        return ()
    found = node(*given) if callable(node) else node.apply(*given)
    return found if isinstance(found, tuple) else (found,)


def _edge(root):
    edge = torch.autograd.graph.get_gradient_edge(root) if isinstance(root, Tensor) else root
    return edge.node, edge.output_nr


def _add(held, edge, grad):
    """Add a gradient to those of an output, in the output's shape, dtype and device."""
    node, place = edge
    if node is None or grad is None:
        return
    expected = node._input_metadata[place]
    if grad.device != expected.device and grad.ndim:
        raise RuntimeError(f"a gradient is on {grad.device}, and its tensor was on {expected.device}")
    grad = grad if grad.shape == expected.shape else grad.sum_to_size(expected.shape)
    grad = grad.to(expected.device, expected.dtype)
    held[node][place] = grad if place not in held[node] else held[node][place] + grad
