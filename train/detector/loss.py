"""The detector's loss: ultralytics' v8PoseLoss on the faces, with the teacher's outputs merged in.

Where the teacher fires and no face is assigned, its score is the target (scores of cells are otherwise 0 or the
assigner's, times the face's weight). Cells inside faces without weight do not count. Where the teacher scores high, its
box distribution and its points are learnt too, weighted by its score.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from ultralytics.utils.loss import v8PoseLoss


class TaughtPoseLoss(v8PoseLoss):
    """v8PoseLoss that takes `t_index` (batch, cell), `t_score`, `t_box_score`, `t_boxes` (m, 64), `t_kpts` (m, 15) and
    `partial` (k, 6: image, xyxy pixels, weight) in its batch."""

    def __init__(self, model: Any, teacher_weight: float, teacher_scores: float, point_sigma: float = 0.2) -> None:
        model.kpt_oks_sigmas = [point_sigma] * 5  # v8PoseLoss reads it
        super().__init__(model)
        self.teacher_weight, self.teacher_scores = teacher_weight, teacher_scores
        self.plain_bce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.bce
        self.bce: Any = self.merged_bce  # v8PoseLoss calls it
        self.taught: torch.Tensor | None = None  # (batch, cells, 1): the teacher's scores
        self.weight: torch.Tensor | None = None  # (batch, cells, 1): the least weight of the faces that the cell is in

    def merged_bce(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy per cell against the larger of the assigner's and the teacher's score."""
        assert self.taught is not None
        assert self.weight is not None
        known = (self.weight > 0) | (target > 0)
        aim = torch.where(self.weight > 0, target * self.weight, target)
        return self.plain_bce(logits, torch.maximum(aim, self.taught)) * known

    def loss(self, preds: dict[str, torch.Tensor], batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        """Total (6,) and its parts by name: box, pose, kobj, cls, dfl, teacher."""
        preds = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in preds.items()}
        scores = preds["scores"]  # (b, 1, cells)
        where, cell = batch["t_index"]
        self.taught = torch.zeros_like(scores).permute(0, 2, 1).contiguous()
        self.taught[where, cell, 0] = batch["t_score"] * self.teacher_scores
        self.weight = self.face_weight(preds, batch["partial"])
        total, parts = super().loss(preds, batch)
        taught = self.teacher_loss(preds, batch) * self.teacher_weight
        return torch.cat([total, taught[None] * scores.shape[0]]), parts | {"teacher": taught.detach()}

    def face_weight(self, preds: dict[str, Any], boxes: torch.Tensor) -> torch.Tensor:
        """(b, cells, 1): the least weight of those of `boxes` that the cell's centre lies in, else 1."""
        from ultralytics.utils.tal import make_anchors

        points, strides = make_anchors(preds["feats"], self.stride, 0.5)
        centre = points * strides  # (cells, 2) pixels
        weight = torch.ones_like(preds["scores"]).permute(0, 2, 1).contiguous()
        for row in boxes:
            within = ((centre > row[1:3]) & (centre < row[3:5])).all(1)
            weight[int(row[0]), within, 0] = weight[int(row[0]), within, 0].clamp(max=row[5].item())
        return weight

    def teacher_loss(self, preds: dict[str, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
        """Cross entropy to the teacher's box distributions and distance to its points, weighted by its score."""
        where, cell = batch["t_index"]
        strong = batch["t_box_score"] > 0.2
        if not strong.any():
            return preds["scores"].sum() * 0
        where, cell, share = where[strong], cell[strong], batch["t_box_score"][strong]
        boxes = preds["boxes"][where, :, cell].view(-1, 4, self.reg_max)
        wanted = batch["t_boxes"][strong].view(-1, 4, self.reg_max).softmax(-1)
        distance = functional.kl_div(boxes.log_softmax(-1), wanted, reduction="none").sum(-1).mean(-1)
        points = preds["kpts"][where, :, cell].view(-1, 5, 3)[..., :2]
        apart = functional.smooth_l1_loss(points, batch["t_kpts"][strong].view(-1, 5, 3)[..., :2], reduction="none")
        return ((distance + apart.mean((1, 2))) * share).sum() / share.sum()
