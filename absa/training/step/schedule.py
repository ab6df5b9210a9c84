"""Progress of a training and the learning rate there. Pure."""


def progress(*, elapsed_share: float, epoch_share: float) -> float:
    """Return the completed share of a training, 0 to 1: the larger of the time used and of the data seen.

    Time decides when the data do not fit into it, data when they are through early.
    """
    return min(1.0, max(elapsed_share, epoch_share, 0.0))


def rate_share(at: float, warmup: float) -> float:
    """Share of the peak learning rate: up in a line over `warmup`, then down in a line to zero at 1.

    Args:
        at: how much of the training is over, 0 to 1.
        warmup: share of the training in which the rate rises.
    """
    if at < warmup:
        return at / warmup
    return max(0.0, (1.0 - at) / (1.0 - warmup))


def ema_decay(step: int, horizon_share: float) -> float:
    """Weight that the average keeps at a step (counted from 1), so that it looks back over a share of the steps so far.

    At the first step it is 0: the average starts as the model itself, so there is no bias to correct, and it is valid
    at any second.
    """
    return max(0.0, 1.0 - 1.0 / max(1.0, horizon_share * step))
