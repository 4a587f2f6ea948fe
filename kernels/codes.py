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
KEPT = 1000

# Normalisation between a hidden layer's product and its activation
NO_NORM, LAYER_NORM, BATCH_NORM = range(3)
NORMS = {"layer": LAYER_NORM, "batch": BATCH_NORM}
NORM_EPS, MOMENTUM = 1e-5, 0.1  # torch.nn.LayerNorm's and BatchNorm1d's
DROPOUT_RANGE = 1 << 32  # a number is dropped where its 32 random bits are below rate * DROPOUT_RANGE

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

# Constants of an update, ready to be used by the vectors; one array of CONSTANTS numbers a step.
C_LR, C_L2, C_DECAY = 0, 1, 2  # step length; weight decay added to the gradient; p -= decay p
C_L1, C_CLIP, C_EMA = 3, 4, 5  # FULL: g += l1 sign p; abs(g) at most clip; ema += share (p - ema), or 0
C_MOMENTUM, C_FRESH, C_GRADIENT, C_BUFFER = 6, 7, 8, 9  # SGD: buf = mom buf + fresh g; d = a g + b buf
C_BETA1, C_BETA2, C_ROOT, C_EPS = 6, 7, 8, 9  # Adam: 1 - b1, 1 - b2; sqrt(v) is scaled by root
C_SLOPE, C_MEAN = 10, 11  # NAdam: share of the gradient and of its mean in the step
C_SIZED, C_PLAIN = 10, 11  # RAdam: share of the step over sqrt(v), and of that without
C_KEEP = 10  # Adamax: b2
C_INERTIA = 10  # RMSprop: momentum
C_START = 10  # Adagrad: what the sums began with
CONSTANTS = 12

# hyper: the optimizer's own numbers, then the training's, 0 where not used; after HYPER, with
# H_PER_LAYER, one factor of the learning rate per layer. H_MOMENTUM: Adam's and its kin's first beta.
H_LR, H_WEIGHT_DECAY, H_MOMENTUM, H_DAMPENING, H_NESTEROV = 0, 1, 2, 3, 4
H_BETA2, H_EPS, H_DECOUPLED, H_LR_DECAY, H_MOMENTUM_DECAY, H_START = 5, 6, 7, 8, 9, 10
H_CLIP_NORM, H_CLIP_LAYER, H_CLIP_VALUE, H_L1, H_MAX_NORM = 11, 12, 13, 14, 15
H_ACCUMULATE, H_EMA, H_PER_LAYER, H_BARE_BIAS = 16, 17, 18, 19
HYPER = 20

# rates: what changes from update to update, RATES float64 each: learning rate, momentum, and NAdam's
# product of momenta so far
RATES = 3

# plan: header
P_LAYERS, P_BATCH, P_INPUTS, P_OUTPUTS, P_LOSS, P_OPTIMIZER, P_SIZE = 0, 1, 2, 3, 4, 5, 6
P_X, P_LDX, P_TARGET, P_LDT, P_TARGETS, P_ROWLOSS, P_ROWSCALE = 7, 8, 9, 10, 11, 12, 13
P_SCRATCH, P_SCRATCH_SIZE, P_PANEL, P_GRADIENT, P_PARTIALS, P_ZERO, P_SLOTS = 14, 15, 16, 17, 18, 19, 20
P_LOWEST = 21  # the lowest layer that trains; no delta is needed below it
P_NUMBERS = 22  # the loss's own numbers, in the work arena
# P_MEETS: whether there is a batch norm; P_DROPOUT: of the inputs; P_DX: gradient of the embedded
# columns; P_CODES: categories of the batch; P_RUNS, P_EMBEDDINGS: how many; they lie behind the layers
P_MEETS, P_DROPOUT, P_DX, P_LDDX, P_CODES, P_RUNS, P_EMBEDDINGS = range(23, 30)
P_SUMS = 30  # of batches over LONG: where, in a thread's scratch, sums lie in between
HEADER = 31

# plan: one layer. L_FROZEN: 1 where its parameters stay as they are. L_ACTIVATION is computed in the
# product's epilogue, L_LATE after the whole rows are there (where L_SPECIAL: norm, dropout, a skip or
# prelu). L_DERIVE: how ``derive`` gets the slope; L_SLOPE: where kept slopes lie, then, with a norm, the
# gradient at its output; L_HAT: normalised numbers, later times that gradient; L_STAT: 1/deviation of each
# row, or statistics of each column; L_RUNNING: in params, mean and variance; L_TOTAL: gradient at the output
# of a layer with a skip or prelu; L_LOW: what that times is the gradient of prelu's slopes, which are the
# last of the layer's rows. L_DROPOUT: rate * DROPOUT_RANGE; L_ROWS: of params.
L_IN, L_OUT, L_ACTIVATION, L_W, L_LDW, L_X, L_LDX, L_A, L_LDA, L_DELTA = range(10)
L_ROWS, L_SPECIAL, L_LATE, L_DERIVE, L_SLOPE, L_NORM, L_HAT, L_STAT, L_RUNNING = range(10, 19)
L_DROPOUT, L_SKIP, L_TOTAL, L_FROZEN, L_LOW = range(19, 24)
LAYER_COLUMNS = 24

# plan: a run of numeric columns: first column of X, how many, where in the row; an embedding: its
# column, how many categories, numbers a category, where in the row, its table in params and that
# table's leading dimension, the table's gradient in the work arena
R_COLUMN, R_COUNT, R_PLACE = range(3)
RUN_COLUMNS = 3
E_COLUMN, E_CATEGORIES, E_WIDTH, E_PLACE, E_TABLE, E_LD, E_GRADIENT = range(7)
EMBEDDING_COLUMNS = 7
# rows of L_STAT with a batch norm: mean, variance, 1/deviation, then sums of the backward pass
N_MEAN, N_VARIANCE, N_INVERSE, N_SUM, N_PRODUCT = range(5)
STATISTICS = 5

# a thread's scratch in the work arena: update constants (of the step; of a layer's weights; of its
# bias), a one, a tile (or BLOCK_ROWS rows of a panel), and, at P_PANEL, a panel of transposed weights, or
# packed deltas (of LONG rows at most) and inputs (PACKED columns of these); at P_SUMS, of batches longer than
# LONG, what their first rows add to SUM_ROWS rows of a gradient
S_CONSTANTS, S_ONE, S_TILE = 0, 40, 48
PACKED, SUM_ROWS = 64, 128
TILE = 2048  # floats of the largest tile, or of a narrow gradient and its transpose
LONG = 256  # rows of a batch beyond which the gradients of wide layers are summed in pieces of so many
BLOCK_ROWS = 256  # rows that pass all layers at a time, and a panel at a time: what they leave stays in L2

# floats of the gradient arena whose squares are summed as one
BLOCK = 4096

# call. COLLECT: a training step's gradients without the update; APPLY: one update from the gradient arena,
# whoever filled it
TRAIN, GRADIENTS, EVALUATE, PREDICT, FORWARD, SHUFFLE, COLLECT, APPLY = range(8)
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
    K_RATES,
    K_WORKER,
) = range(24)
CALL = 24

# sync: where the team meets (places a cache line apart), then, per thread, the trace: clock ticks of
# each phase. Forward, backward and update have one place a layer, behind the others.
Y_ARRIVED, Y_DECIDED, Y_WAITING, Y_GENERATION, Y_PROCESSORS = 0, 16, 32, 48, 64
SYNC = 80
T_LAST, T_CLAIMED, T_GATHER, T_LOSS, T_WAIT, T_CONSTANTS, T_CLIP, T_EMBED, T_CONSTRAIN, T_LAYERS = range(10)
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

# X may also be rows of a CSR matrix (SPARSE + the code of its values; K_X: N + 1 row starts, K_X_COL: a
# table of SPARSE_TABLE numbers), or lie in several arrays of one dtype (SHARDED + its code; K_X_COL: a
# table with their number, then, for each, SHARD_COLUMNS numbers)
SPARSE, SHARDED = 16, 32
A_INDICES, A_VALUES, A_ITEM = range(3)  # addresses of int32 columns and of values; bytes of a value
SPARSE_TABLE = 3
D_FIRST, D_ADDRESS, D_ROW, D_COL = range(4)  # its first sample, where it lies, its strides in bytes
SHARD_COLUMNS = 4

# The state of a device, in front of the plan in its table: what a step reads and leaves for the next.
# STEP: of the window's data; ROWS: of the step; FIRST: sample number of the first row at hand; RATED:
# whether there is a table of rates; EVERY: batches an update; DROPS: number of the batch, for what is
# dropped; PART: of the update that the batch belongs to; UPDATES: whether it is made; FATE: STORE or ADD, of
# gradients that are kept; APART: numbers from the step's constants to a layer's, 0 where all have the same
G_MODE, G_STEP, G_ROWS, G_SAMPLES, G_NUMBER, G_HITS, G_STOPPED = range(7)
G_ORDERED, G_FIRST, G_X_ROW, G_X_COL, G_TARGETED, G_WEIGHTED = range(7, 13)
G_PARTS, G_STORE, G_RATED = range(13, 16)
G_SEED, G_EVERY, G_DROPS, G_PART, G_UPDATES, G_FATE, G_APART = range(16, 23)
DEVICE = 24

# hyper, sums and rates of a device, float64: hyper first; from NUMBERS on the layers' factors of the
# learning rate, then the table of rates
U_LOSS, U_WEIGHT, U_FACTOR = HYPER, HYPER + 1, HYPER + 2
NUMBERS = HYPER + 4
