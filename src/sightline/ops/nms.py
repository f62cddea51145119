"""Non-maximum suppression: of boxes that overlap, keep the best.

`nms` is the one for everybody: exact, greedy, any number of boxes, a list of indices out. `nms_padded` is the same rule
with fixed shapes, for networks: it compiles, exports and never asks the device how many boxes are left. `soft_nms`,
`fast_nms` and `matrix_nms` are three papers' other rules.

Greedy suppression is a fixed point: a box is kept when no kept box of higher rank overlaps it. Starting with all boxes
and applying that sentence again and again ends in the greedy answer, after as many rounds as the longest chain of boxes
that each suppress the next; that is a handful, whereas the loop over boxes takes as many steps as there are boxes.

Equal scores: the box that comes first wins, everywhere. Classes are compared, never shifted apart by adding offsets to
coordinates: offsets eat precision, and in half precision whole classes run into each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.ops.boxes import areas, iou

BLOCK = 256
"""Sorted boxes that are compared at a time, with one another and with those kept before: overlaps stay in the cache."""


def nms(boxes: Tensor, scores: Tensor, threshold: float, *, labels: Tensor | None = None) -> Tensor:
    """Indices of the boxes that are kept, best first: a box goes when a better kept one overlaps it by IoU > threshold.

    boxes: `(N, 4)`. scores: `(N,)`. labels: `(N,)`, boxes of different classes do not compete; None: all compete.
    """
    order = ranking(scores)
    return order[_kept_of_one(boxes[order], threshold, None if labels is None else labels[order])]


def ranking(scores: Tensor) -> Tensor:
    """Indices `(..., N)` of scores `(..., N)`, best first, equal ones in their order."""
    return scores.sort(dim=-1, descending=True, stable=True).indices


def rivals(a: Tensor, b: Tensor, threshold: float, of_a: Tensor | None = None, of_b: Tensor | None = None) -> Tensor:
    """True `(..., N, M)` where a box of `a` overlaps one of `b` of its class by more than `threshold`."""
    a, b = a.float(), b.float()
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a.unbind(-1), b.unbind(-1)
    shared = torch.minimum(ax1[..., None], bx1[..., None, :])
    shared = shared.sub_(torch.maximum(ax0[..., None], bx0[..., None, :])).clamp_(min=0)
    high = torch.minimum(ay1[..., None], by1[..., None, :])
    high = high.sub_(torch.maximum(ay0[..., None], by0[..., None, :])).clamp_(min=0)
    shared = shared.mul_(high)
    union = (areas(a)[..., None] + areas(b)[..., None, :]).sub_(shared)
    rival = shared.div_(union) > threshold  # two boxes without area: 0 / 0, which is above nothing
    if of_a is not None and of_b is not None:
        rival = rival & (of_a[..., None] == of_b[..., None, :])
    return rival


def kept_of_sorted(boxes: Tensor, threshold: float, *, valid: Tensor, labels: Tensor | None = None) -> Tensor:
    """Which of many lists' boxes the greedy rule keeps: `(..., N)` bool.

    boxes: `(..., N, 4)`, each list sorted, best first. valid: `(..., N)` bool, boxes that take part.
    """
    if torch.compiler.is_compiling() or boxes.is_cuda:
        return greedy(rivals(boxes, boxes, threshold, labels, labels), valid)
    shape = valid.shape
    if not valid.numel():
        return valid.clone()
    lists, flags = boxes.reshape(-1, *boxes.shape[-2:]), valid.reshape(-1, shape[-1])
    classes = None if labels is None else labels.reshape(-1, shape[-1])
    kept = torch.zeros_like(flags)
    for i in range(len(lists)):  # on a CPU a list at a time, without its gaps: far fewer pairs
        some = flags[i].nonzero()[:, 0]
        kept[i, some[_kept_of_one(lists[i, some], threshold, None if classes is None else classes[i, some])]] = True
    return kept.reshape(shape)


def _kept_of_one(boxes: Tensor, threshold: float, labels: Tensor | None) -> Tensor:
    """Indices of those that one sorted list `(N, 4)` keeps."""
    boxes = boxes.float()
    everything = torch.arange(len(boxes), device=boxes.device)
    kept = everything[:0]
    for some in everything.split(BLOCK):
        here = boxes[some]
        free = torch.ones(len(some), dtype=torch.bool, device=boxes.device)
        if len(kept):
            free = ~rivals(boxes[kept], here, threshold, _pick(labels, kept), _pick(labels, some)).any(0)
        some, here = some[free], here[free]
        rival = rivals(here, here, threshold, _pick(labels, some), _pick(labels, some))
        kept = torch.cat([kept, some[greedy(rival, torch.ones(len(some), dtype=torch.bool, device=boxes.device))]])
    return kept


def _pick(labels: Tensor | None, index: Tensor) -> Tensor | None:
    return None if labels is None else labels[index]


def greedy(rival: Tensor, valid: Tensor) -> Tensor:
    """Which boxes the greedy rule keeps: `(..., N)` bool.

    rival: `(..., N, N)` bool, whether the row's box would suppress the column's; rows are sorted, best first.
    valid: `(..., N)` bool, boxes that take part.
    """
    over = torch.triu(rival, diagonal=1).to(torch.float32)

    def once(kept: Tensor) -> Tensor:
        return valid & ((kept.to(torch.float32)[..., None, :] @ over)[..., 0, :] == 0)

    if torch.compiler.is_compiling() or over.is_cuda:
        return _without_waiting(once, valid)
    kept, before = once(valid), valid
    while not torch.equal(kept, before):
        kept, before = once(kept), kept
    return kept


ROUNDS = 48
"""Rounds in compiled and exported programs, and on a GPU, where to ask whether anything changed is to wait.

Longer chains of boxes that each suppress the next would need more; those of detectors have a handful.
"""


def _without_waiting(once, valid: Tensor) -> Tensor:
    kept = valid
    for _ in range(ROUNDS):
        kept = once(kept)
    return kept


def nms_padded(
    boxes: Tensor, scores: Tensor, threshold: float, *, valid: Tensor, labels: Tensor | None = None, most: int
) -> tuple[Tensor, Tensor]:
    """`nms` with fixed shapes: indices `(..., most)`, best first, and how many of them are real, `(...)`.

    boxes: `(..., N, 4)`. scores: `(..., N)`. valid: `(..., N)` bool, boxes that take part. labels: `(..., N)`, boxes of
    different classes do not compete. Indices beyond the count point at some box and mean nothing; N may be smaller
    than `most`, which then is N.
    """
    order = ranking(scores.float().masked_fill(~valid, -math.inf))
    sorted_boxes = boxes.gather(-2, order[..., None].expand(*order.shape, 4))
    sorted_labels = None if labels is None else labels.gather(-1, order)
    kept = kept_of_sorted(sorted_boxes, threshold, valid=valid.gather(-1, order), labels=sorted_labels)
    first = first_true(kept, most)
    return order.gather(-1, first), kept.sum(-1).clamp(max=first.shape[-1])


def first_true(flags: Tensor, most: int) -> Tensor:
    """Positions `(..., min(most, N))` of the true values of `(..., N)`, then of the false ones, each in their order."""
    return (~flags).to(torch.uint8).sort(dim=-1, stable=True).indices[..., :most]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    sigma: float = 0.5,
    threshold: float | None = None,
    lowest: float = 1e-3,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices, best first, and their lowered scores: boxes that overlap a better one lose score instead of going.

    Bodla et al. 2017, arXiv:1704.04503. A box's score is multiplied by exp(-IoU^2 / sigma) for every better box; with
    `threshold`, the linear form: by 1 - IoU where the IoU is above it. Boxes whose score falls below `lowest` go.
    """
    rest = scores.float().clone()
    overlap = iou(boxes, boxes)
    if labels is not None:
        overlap = overlap * (labels[:, None] == labels[None, :])
    if threshold is None:
        factor = torch.exp(-(overlap**2) / sigma)
    else:
        factor = torch.where(overlap > threshold, 1 - overlap, 1.0)
    found, final = [], []
    for _ in range(len(rest)):
        best = int(rest.argmax())
        if not rest[best] >= lowest:
            break
        found.append(best)
        final.append(float(rest[best]))
        rest *= factor[best]
        rest[found] = -math.inf
    device = boxes.device
    return torch.tensor(found, dtype=torch.long, device=device), torch.tensor(final, device=device)


def fast_nms(
    boxes: Tensor, scores: Tensor, threshold: float, *, labels: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """True `(..., N)` where a box is kept: no better box at all overlaps it, not even one that is itself suppressed.

    Bolya et al. 2019 (YOLACT, arXiv:1904.02689, section 3.5). boxes: `(..., N, 4)`; scores, labels: `(..., N)`.
    """
    order = ranking(scores)
    boxes = boxes.gather(-2, order[..., None].expand(*order.shape, 4))
    labels = None if labels is None else labels.gather(-1, order)
    rival = torch.triu(rivals(boxes, boxes, threshold, labels, labels), diagonal=1)
    if valid is not None:
        rival = rival & valid.gather(-1, order)[..., :, None]
    kept = ~rival.any(-2)
    if valid is not None:
        kept = kept & valid.gather(-1, order)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def matrix_nms(
    overlap: Tensor, scores: Tensor, labels: Tensor, *, kernel: str = "gaussian", sigma: float = 2.0
) -> Tensor:
    """Lowered scores `(..., N)`: each by its worst overlap with a better one of its class, eased where that one is
    itself overlapped.

    Wang et al. 2020 (SOLOv2, arXiv:2003.10152, section 3.3). overlap: `(..., N, N)` IoU of masks or boxes, sorted by
    score, best first, as are scores and labels `(..., N)`. kernel: `gaussian` with `sigma`, or `linear`.
    """
    overlap = torch.triu(overlap, diagonal=1) * (labels[..., :, None] == labels[..., None, :])
    worst = overlap.amax(-2)[..., :, None]  # of the box that would suppress, with its own betters
    if kernel == "gaussian":
        decay = torch.exp(-sigma * overlap**2) / torch.exp(-sigma * worst**2)
    elif kernel == "linear":
        decay = (1 - overlap) / (1 - worst)
    else:
        raise ValueError(f"matrix_nms has no kernel '{kernel}'; choose gaussian or linear")
    return scores * decay.amin(-2)
