"""The Bradley-Terry loss of pairs of scores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bradley_terry(chosen: Tensor, rejected: Tensor, margins: Tensor, centre_coefficient: float) -> Tensor:
    """(P,) loss of each pair:  -log sigmoid(chosen - rejected - margin) + centre_coefficient (chosen + rejected)^2

    The first term is the negative log-likelihood of the preferences in the model of Bradley and Terry (1952), with the margin
    of Llama 2 (arXiv 2307.09288, eq. 2). Scores are free up to a constant in it; the second term (Eisenstein et al., arXiv
    2312.09244, §3) holds their mean at 0.

    chosen, rejected: (P,) scores; margins: (P,) in units of the score.
    """
    centring = (chosen + rejected).square()
    return -F.logsigmoid(chosen - rejected - margins) + centre_coefficient * centring
