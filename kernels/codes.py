"""Integer codes and table columns: the whole vocabulary between Python and the kernels.

A network, its loss and its optimizer are three tables (see fastbp/plan.py, which fills them):

    plan   int64: a header, then LAYER_COLUMNS entries for each layer
    call   int64: what one call does: mode, steps, threads, and where the data lies
    hyper  float64: the optimizer's numbers

Offsets count elements of the arena that they point into. Every leading dimension is a multiple of
64 bytes. Changing a number here changes the source digest, so nothing stale can be loaded.
"""

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
) = range(16)
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
# Activations and losses from here on are the user's: in a plan numbers of a registry, in a session's
# table addresses of compiled functions. Such activations are STORED.
USER = 1 << 12

# Losses. SOFT_: cross_entropy with class probabilities as targets; SMOOTH_: with label smoothing or class
# weights; LABEL_: with one class a sample, where outputs could also be treated alone.
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
) = range(19)
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
LOSS_SCALARS = 16  # of a loss's own numbers; behind them a vector with one for each output

# What the weight tile's epilogue does. STORE keeps the gradient itself (the second path).
STORE, SGD, SGD_MOMENTUM, ADAM, ADAM_DECAY = range(5)
SLOTS = {STORE: 1, SGD: 0, SGD_MOMENTUM: 1, ADAM: 2, ADAM_DECAY: 2}

# Constants of an update, ready to be used by the vectors; one array of CONSTANTS numbers a step.
C_LR, C_L2, C_DECAY = 0, 1, 2  # step length; weight decay added to the gradient; p *= decay
C_MOMENTUM, C_FRESH, C_GRADIENT, C_BUFFER = 3, 4, 5, 6  # SGD: buf = mom buf + fresh g; d = a g + b buf
C_BETA1, C_BETA2, C_ROOT, C_EPS = 3, 4, 5, 6  # Adam: 1 - b1, 1 - b2; sqrt(v) is scaled by root
CONSTANTS = 8

# hyper: the optimizer's own numbers
H_LR, H_WEIGHT_DECAY, H_MOMENTUM, H_DAMPENING, H_NESTEROV = 0, 1, 2, 3, 4
H_BETA1, H_BETA2, H_EPS, H_DECOUPLED, H_CLIP_NORM = 5, 6, 7, 8, 9
HYPER = 10

# plan: header
P_LAYERS, P_BATCH, P_INPUTS, P_OUTPUTS, P_LOSS, P_OPTIMIZER, P_SIZE = 0, 1, 2, 3, 4, 5, 6
P_X, P_LDX, P_TARGET, P_LDT, P_TARGETS, P_ROWLOSS, P_ROWSCALE = 7, 8, 9, 10, 11, 12, 13
P_SCRATCH, P_SCRATCH_SIZE, P_PANEL, P_GRADIENT, P_PARTIALS, P_ZERO, P_SLOTS = 14, 15, 16, 17, 18, 19, 20
P_LOWEST = 21  # the lowest layer that trains; no delta is needed below it
P_NUMBERS = 22  # the loss's own numbers, in the work arena
HEADER = 23

# plan: one layer. FROZEN: 1 where its parameters stay as they are
L_IN, L_OUT, L_ACTIVATION, L_W, L_LDW, L_X, L_LDX, L_A, L_LDA, L_DELTA, L_FROZEN = range(11)
LAYER_COLUMNS = 11

# a thread's scratch in the work arena: update constants, a one, a tile (or BLOCK_ROWS rows of a
# panel), and, at P_PANEL, a panel of transposed weights
S_CONSTANTS, S_ONE, S_TILE = 0, 8, 16
TILE = 2048  # floats of the largest tile, or of a narrow gradient and its transpose
BLOCK_ROWS = 256  # rows of a panel between two visits to the epilogue: 64 KiB, so they stay in L2

# floats of the gradient arena whose squares are summed as one
BLOCK = 4096

# call. APPLY: one update from the gradient arena, whoever filled it
TRAIN, GRADIENTS, EVALUATE, PREDICT, FORWARD, SHUFFLE, APPLY = range(7)
(
    K_MODE,
    K_THREADS,
    K_COLUMNS,
    K_FIRST,
    K_LAST,
    K_SAMPLES,
    K_STEP,
    K_ORDER,
    K_X,
    K_X_TYPE,
    K_X_ROW,
    K_X_COL,
    K_Y,
    K_Y_TYPE,
    K_Y_ROW,
    K_Y_COL,
    K_WEIGHT,
    K_OUT,
    K_OUT_ROW,
    K_SEED,
    K_STREAM,
    K_TRACE,
) = range(22)
CALL = 22

# sync: where the team meets (places a cache line apart), then, per thread, the trace: clock ticks of
# each phase. Forward, backward and update have one place a layer, behind the others.
Y_ARRIVED, Y_DECIDED, Y_WAITING, Y_GENERATION, Y_PROCESSORS = 0, 16, 32, 48, 64
SYNC = 80
T_LAST, T_GATHER, T_LOSS, T_WAIT, T_CONSTANTS, T_CLIP, T_LAYERS = range(7)
T_FORWARD, T_BACKWARD, T_UPDATE = range(3)


def trace_size(layers):
    """int64 places of one thread's trace, whole cache lines."""
    return -(-(T_LAYERS + 3 * layers) // 16) * 16


# results: loss and weight sums since step 0, of this call the steps done and the threads used; then
# each thread's count of right answers (of PREDICT and FORWARD: of rows whose inputs are not finite)
R_LOSS, R_WEIGHT, R_STEPS, R_THREADS = range(4)
RESULTS = 4

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

# The state of a device, in front of the plan in its table: what a step reads and leaves for the next.
# STEP: of the window's data; ROWS: of the step; FIRST: sample number of the first row at hand
D_MODE, D_STEP, D_ROWS, D_SAMPLES, D_NUMBER, D_HITS, D_STOPPED = 0, 1, 2, 3, 4, 5, 6
D_ORDERED, D_FIRST, D_X_ROW, D_X_COL, D_TARGETED, D_WEIGHTED = 7, 8, 9, 10, 11, 12
D_PARTS, D_STORE = 13, 14
DEVICE = 24

# hyper and sums of a device, float64: hyper first
N_LOSS, N_WEIGHT, N_FACTOR = HYPER, HYPER + 1, HYPER + 2
NUMBERS = HYPER + 4
