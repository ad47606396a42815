"""Batch norm's statistics of the weights that are kept, on faces as they are."""

import torch
from torch import Tensor, nn

from mien.models import FaceClassifier

BATCH = 256


@torch.no_grad()
def reestimate_norm(classifier: FaceClassifier, faces: Tensor) -> None:
    """Replace every batch norm's running statistics by those of ``faces``, in place; weights stay as they are.

    What training gathers is of augmented and mixed faces and of weights on their way; validation, test and use see
    faces as they are.

    Source: "PreciseBN", Wu, Johnson 2021, arXiv:2105.07576, section 3.
    Deviations: the mean of the batches' variances, not the variance of all faces together.

    Args:
        classifier: left in evaluation mode. Without batch norm, nothing happens.
        faces: uint8 ``(M, 1, H, W)``, of the training split, on the classifier's device.
    """
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    classifier.eval()  # dropout stays off
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for batch in torch.split(faces, BATCH):
        classifier(classifier.prepare(batch))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    classifier.eval()
