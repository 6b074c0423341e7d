import torch

from rporec_recbole.backbone.losses import IGNORE, cot_loss


def test_cot_loss_by_hand():
    # Two classes with logits (0, 0): every learned token costs log 2; ignored ones cost nothing.
    labels = torch.tensor([[IGNORE, 1, 0, IGNORE]])
    torch.testing.assert_close(cot_loss(torch.zeros(1, 4, 2), labels), torch.tensor(2.0).log())
