"""Integer codes that Python and the kernels share: activations, losses, optimizers, modes, dtypes.

The tables that they stand in are declared in tables.py, whose names are here too.
"""

from .tables import *  # noqa: F403

# Activations. STORED: the derivative needs the input, so the forward pass keeps it (in the delta arena).
(
    IDENTITY,
    RELU,
    LEAKY_RELU,
    SIGMOID,
    TANH,
    ELU,
    GELU,
    SILU,
    SELU,
    GELU_TANH,
    MISH,
    SOFTPLUS,
    SOFTSIGN,
    HARDTANH,
    HARDSWISH,
    SIN,
    PRELU,
) = range(17)
ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "elu": ELU,
    "celu": ELU,  # with alpha 1 they are one function
    "gelu": GELU,
    "silu": SILU,
    "selu": SELU,
    "gelu_tanh": GELU_TANH,
    "mish": MISH,
    "softplus": SOFTPLUS,
    "softsign": SOFTSIGN,
    "hardtanh": HARDTANH,
    "hardswish": HARDSWISH,
    "sin": SIN,
}
STORED = (GELU, SILU, GELU_TANH, MISH, HARDSWISH, SIN)
# with a number for each unit that is learned: a row behind the biases (or shifts) of its layer
LEARNED = {"prelu": PRELU}
PRELU_SLOPE = 0.25  # at first, as torch.nn.PReLU's
# Activations and losses from here on are the user's: in a plan numbers of a registry, in a session's
# table addresses of compiled functions. Such activations are STORED.
USER = 1 << 12
# for ``derive`` alone: the slope was kept, whatever the activation (layers with dropout, norm or a skip)
SLOPE_KEPT = 1000

# Normalisation between a hidden layer's product and its activation
NO_NORM, LAYER_NORM, BATCH_NORM = range(3)
NORMS = {"layer": LAYER_NORM, "batch": BATCH_NORM}
NORM_EPS, MOMENTUM = 1e-5, 0.1  # torch.nn.LayerNorm's and BatchNorm1d's
DROPOUT_RANGE = 1 << 32  # a number is dropped where its 32 random bits are below rate * DROPOUT_RANGE
SAMPLE = (
    1 << 32
)  # predictions with dropout: sample k drops by numbers from (k + 1) * SAMPLE on, training by lower

# Losses. SOFT_: cross_entropy with class probabilities as targets; SMOOTH_: with label smoothing or class
# weights; LABEL_: with one class a sample, where outputs could also be treated alone; ORDERED_: of quantiles
# that do not cross.
(
    CROSS_ENTROPY,
    SOFT_CROSS_ENTROPY,
    BCE_WITH_LOGITS,
    MSE,
    MAE,
    HUBER,
    SMOOTH_CROSS_ENTROPY,
    SMOOTH_SOFT_CROSS_ENTROPY,
    WEIGHTED_BCE,
    FOCAL,
    LABEL_FOCAL,
    LOG_COSH,
    QUANTILE,
    POISSON_NLL,
    GAMMA_NLL,
    GAUSSIAN_NLL,
    HINGE,
    LABEL_HINGE,
    COSINE,
    ORDERED_QUANTILE,
) = range(20)
LOSSES = {
    "cross_entropy": CROSS_ENTROPY,
    "bce_with_logits": BCE_WITH_LOGITS,
    "mse": MSE,
    "mae": MAE,
    "huber": HUBER,
    "focal": FOCAL,
    "log_cosh": LOG_COSH,
    "quantile": QUANTILE,
    "poisson_nll": POISSON_NLL,
    "gamma_nll": GAMMA_NLL,
    "gaussian_nll": GAUSSIAN_NLL,
    "hinge": HINGE,
    "cosine": COSINE,
}
LABELS = (CROSS_ENTROPY, SMOOTH_CROSS_ENTROPY, LABEL_FOCAL, LABEL_HINGE)  # targets: one class a sample
# right or wrong: a sample by its largest output, or each output by its sign
RIGHT_BY_SAMPLE = (*LABELS, SOFT_CROSS_ENTROPY, SMOOTH_SOFT_CROSS_ENTROPY)
RIGHT_BY_OUTPUT = (BCE_WITH_LOGITS, WEIGHTED_BCE, FOCAL, HINGE)
TOGETHER = (*RIGHT_BY_SAMPLE, COSINE)  # the outputs are one answer: none has a target or a weight of its own

# What the weight tile's epilogue does: STORE keeps the gradient (the second path), ADD adds to what is
# kept, the rules are the optimizers. A code is a rule, plus one of the variants with more terms:
# DECAY, for rules in COMMON only, takes weight decay in; FULL also clipping by value, L1 and the moving
# average of the weights.
(
    STORE,
    ADD,
    SGD,
    SGD_MOMENTUM,
    ADAM,
    AMSGRAD,
    NADAM,
    RADAM,
    ADAMAX,
    RMSPROP,
    RMSPROP_MOMENTUM,
    RMSPROP_CENTERED,
    RMSPROP_CENTERED_MOMENTUM,
    ADAGRAD,
    ADADELTA,
    LION,
) = range(16)
RULES = 16
COMMON = (SGD, SGD_MOMENTUM, ADAM)
DECAY, FULL = RULES, 2 * RULES
SLOTS = {
    STORE: 1,
    ADD: 1,
    SGD: 0,
    SGD_MOMENTUM: 1,
    ADAM: 2,
    AMSGRAD: 3,
    NADAM: 2,
    RADAM: 2,
    ADAMAX: 2,
    RMSPROP: 1,
    RMSPROP_MOMENTUM: 2,
    RMSPROP_CENTERED: 2,
    RMSPROP_CENTERED_MOMENTUM: 3,
    ADAGRAD: 1,
    ADADELTA: 2,
    LION: 1,
}
SLOTS |= {rule + DECAY: SLOTS[rule] for rule in COMMON} | {
    rule + FULL: SLOTS[rule] for rule in range(SGD, RULES)
}

# Constants of an update, which the optimizer makes for both devices: tables.CONSTANTS numbers, ready to be
# used by the vectors.
C_LR, C_L2, C_DECAY = 0, 1, 2  # step length; weight decay added to the gradient; p -= decay p
C_L1, C_CLIP, C_EMA = 3, 4, 5  # FULL: g += l1 sign p; abs(g) at most clip; ema += share (p - ema), or 0
C_MOMENTUM, C_FRESH, C_GRADIENT, C_BUFFER = 6, 7, 8, 9  # SGD: buf = mom buf + fresh g; d = a g + b buf
C_BETA1, C_BETA2, C_ROOT, C_EPS = 6, 7, 8, 9  # Adam: 1 - b1, 1 - b2; sqrt(v) is scaled by root
C_SLOPE, C_MEAN = 10, 11  # NAdam: share of the gradient and of its mean in the step
C_SIZED, C_PLAIN = 10, 11  # RAdam: share of the step over sqrt(v), and of that without
C_KEEP = 10  # Adamax: b2
C_INERTIA = 10  # RMSprop: momentum
C_START = 10  # Adagrad: what the sums began with
C_AVERAGE = 12  # share of the weights in their average, with a limit on the weights too; C_EMA is 0 then

# call. COLLECT: a training step's gradients without the update; APPLY: one update from the gradient arena,
# whoever filled it
TRAIN, GRADIENTS, EVALUATE, PREDICT, FORWARD, SHUFFLE, COLLECT, APPLY = range(8)

# a network of a call for many: whether a thread may take it
WAITING, TAKEN, DONE, STOPPED = range(4)

# dtypes of data that the gather reads in place, by numpy's (kind, itemsize)
DTYPES = {
    ("f", 4): 0,
    ("f", 8): 1,
    ("f", 2): 2,
    ("u", 1): 3,
    ("i", 1): 4,
    ("u", 2): 5,
    ("i", 2): 6,
    ("u", 4): 7,
    ("i", 4): 8,
    ("u", 8): 9,
    ("i", 8): 10,
    ("b", 1): 3,
}

# X may also be rows of a CSR matrix (SPARSE + the code of its values), or lie in several arrays of one dtype
# (SHARDED + its code); the tables A and D of tables.py say how
SPARSE, SHARDED = 16, 32
