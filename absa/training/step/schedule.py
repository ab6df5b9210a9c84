"""Progress of a training, and its learning rate. Pure."""


def progress(*, elapsed_share: float, epoch_share: float) -> float:
    """Return the completed share of a training, 0 to 1: the larger of the time used and of the data seen.

    The time decides if the data do not fit into it; the data decide if all passes end earlier.
    """
    return min(1.0, max(elapsed_share, epoch_share, 0.0))


def rate_share(at: float, warmup: float) -> float:
    """Return the share of the peak learning rate: linear rise over `warmup`, then linear fall to zero at 1.

    Args:
        at: completed share of the training, 0 to 1.
        warmup: share of the training in which the rate rises, 0 to 1.
    """
    if at < warmup:
        return at / warmup
    return max(0.0, (1.0 - at) / (1.0 - warmup))


def ema_decay(step: int, horizon_share: float) -> float:
    """Return the weight of the old average at a step (from 1), so that it covers a share of the steps so far.

    The weight is 0 at the first step: the average starts as the model, so there is no bias to correct, and the average
    is valid at any time.
    """
    return max(0.0, 1.0 - 1.0 / max(1.0, horizon_share * step))
