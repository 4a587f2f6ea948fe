"""The tables between Python and the kernels: every field, said once.

A network, its loss and its optimizer become tables of numbers, and the compiled program reads them:

    plan    int64: a header, then a row for each layer, then the runs of numeric columns and the embeddings
    call    int64: what one call does, and where its data lies
    hyper   float64: the options' numbers, then a factor of the learning rate for each layer

Each field is declared below: its unit, one sentence, who writes it, and which devices read it. ``P_LAYERS``
and its like are the numbers of the fields; they follow from the order. The page docs/tables.md comes from
here, and what the GPU refuses. A change here changes the digest of the sources: nothing stale is loaded.
"""

from typing import NamedTuple

# Units. A place is counted in numbers of its arena, a leading dimension (the distance of two rows) too.
# Leading dimensions are whole cache lines.
COUNT, CODE, FLAG, NUMBER, FLOATS = "count", "code", "0 or 1", "number", "floats"
WORK, PARAMS, SCRATCH = "place in work", "place in params", "place in a thread's scratch"
ADDRESS, BYTES, TICKS, SHARE = "address", "bytes", "clock ticks", "1 / DROPOUT_RANGE"

# Who writes a field.
PLAN, SESSION, OPTIONS, DATA = "plan", "session", "options", "data"
# Who writes or reads it: the devices' programs, and Python behind them. What only the CPU reads the GPU's
# program refuses (``refused``), unless it says how the CPU does its work: that it may pass over.
CPU, GPU, PYTHON, BOTH = "cpu", "cuda", "python", "cpu, cuda"
CPU_ALONE = "cpu; cuda passes over it"


class Field(NamedTuple):
    """One field of a table: the name and value of its constant, and what it means."""

    name: str
    place: int
    unit: str
    text: str
    writer: str
    readers: str
    width: int = 1  # numbers that it takes

    def read_by(self, device):
        """Whether the device's program reads it."""
        return device in self.readers.split(";")[0].split(", ")


class Table:
    """A table: fields one behind the other. Calling it declares the next field and returns its number.

    prefix : of the fields' constants; title, text : for the page; first : number of the first field.
    """

    all = {}  # by prefix, in the order of the page

    def __init__(self, prefix, title, text, first=0):
        self.prefix, self.title, self.text = prefix, title, text
        self.first = self.size = first
        self.fields, self._declared = [], {}
        Table.all[prefix] = self

    def __call__(self, unit, text, writer, readers, width=1):
        place, self.size = self.size, self.size + width
        self._declared[place] = (unit, text, writer, readers, width)
        return place

    def name_fields(self, names):
        """Give the fields the names of their constants, out of a module's."""
        found = {n: v for n, v in names.items() if n.startswith(f"{self.prefix}_") and isinstance(v, int)}
        if list(found.values()) != list(self._declared):
            raise TypeError(f"{self.title}: constants {list(found)} are not its fields, one each, in order")
        self.fields = [Field(n, place, *self._declared[place]) for n, place in found.items()]

    def record_names(self):
        """The fields' names in records: those of the constants, in small letters, without the prefix."""
        return [field.name.removeprefix(f"{self.prefix}_").lower() for field in self.fields]

    def places(self, unit):
        """Numbers of the fields of a unit."""
        return [field.place for field in self.fields if field.unit == unit]

    def refused(self, device, is_set):
        """Names of the fields that are set and that ``device`` neither reads nor may pass over.

        is_set : place -> bool.
        """
        return [
            field.name.removeprefix(f"{self.prefix}_").lower()
            for field in self.fields
            if not field.read_by(device) and f"{device} passes" not in field.readers and is_set(field.place)
        ]


# --- sizes that the tables and the kernels share

CONSTANTS = 13  # of an update, see codes.C_...
STATISTICS = 5  # rows of L_STAT with a batch norm, see N_...
LOSS_SCALARS = 16  # of a loss's own numbers; behind them a vector with one for each output
TILE = 2048  # floats of the largest tile, or of a narrow gradient and its transpose
LONG = 256  # rows that a sum over the batch goes through one by one; longer ones are of pieces of so many
LONGER = LONG * LONG  # rows whose pieces are added one by one; longer sums are of such chunks
BLOCK_ROWS = 256  # rows that pass all layers at a time, and a panel at a time: what they leave stays in L2
PACKED = 64  # columns of inputs that are packed behind a panel of deltas
SUM_ROWS = 128  # rows of a gradient that are summed over all pieces of a long batch before the next
EMBEDDED_ROWS = 1024  # rows, or the categories if they are more, that a category's gradient goes through
NORM_BLOCK = 4096  # floats of the gradient arena whose squares are summed as one

# --- plan

P = Table("P", "plan: the header", "What belongs to the whole network.")
P_LAYERS = P(COUNT, "Dense layers of the network.", PLAN, BOTH)
P_BATCH = P(COUNT, "Rows of a batch.", PLAN, BOTH)
P_INPUTS = P(COUNT, "Columns of X.", PLAN, BOTH)
P_OUTPUTS = P(COUNT, "Outputs of the network.", PLAN, BOTH)
P_LOSS = P(CODE, "The loss; of a user's own its number here, on the CPU its address.", PLAN, BOTH)
P_OPTIMIZER = P(CODE, "What is done with a gradient: a rule and its variant, see codes.STORE.", PLAN, BOTH)
P_SIZE = P(FLOATS, "Length of the parameters, and of each of the optimizer's arrays.", PLAN, BOTH)
P_X = P(WORK, "The batch's inputs, (batch, inputs of layer 0).", PLAN, BOTH)
P_LDX = P(FLOATS, "Leading dimension of the batch's inputs.", PLAN, BOTH)
P_TARGET = P(WORK, "The batch's targets, (batch, targets).", PLAN, BOTH)
P_LDT = P(FLOATS, "Leading dimension of the targets.", PLAN, BOTH)
P_TARGETS = P(COUNT, "Numbers of a sample's target: 1 for a class.", SESSION, CPU_ALONE)
P_OFFSETS = P(
    COUNT, "Numbers behind the targets that are added to the outputs: none, or one each.", SESSION, BOTH
)
P_ROWLOSS = P(WORK, "The loss of each row, (batch,).", PLAN, BOTH)
P_ROWSCALE = P(WORK, "What each row counts, (batch,): 1 / batch, or its share of the weights.", PLAN, BOTH)
P_SCRATCH = P(WORK, "Where the threads' scratch begins; on the GPU where the constants lie.", PLAN, BOTH)
P_SCRATCH_SIZE = P(FLOATS, "A thread's scratch.", PLAN, CPU_ALONE)
P_PANEL = P(SCRATCH, "Transposed weights; or deltas and inputs that are packed.", PLAN, CPU_ALONE)
P_GRADIENT = P(WORK, "The gradient, laid out as the parameters, where it is kept; else 0.", PLAN, BOTH)
P_PARTIALS = P(
    WORK, "Sums of squares of each NORM_BLOCK of a gradient that is kept; on the GPU norms.", PLAN, BOTH
)
P_ZERO = P(WORK, "A vector of zeros: where the sums of tiles begin.", PLAN, CPU_ALONE)
P_SLOTS = P(COUNT, "Arrays of the optimizer, the average of the weights included.", PLAN, BOTH)
P_LOWEST = P(COUNT, "The lowest layer that trains; no delta is needed below it.", PLAN, BOTH)
P_NUMBERS = P(WORK, "The loss's own numbers: LOSS_SCALARS, then one for each output.", PLAN, BOTH)
P_MEETS = P(FLAG, "Whether a layer has a batch norm, where all rows meet.", PLAN, BOTH)
P_DROPOUT = P(SHARE, "Share of the inputs that is dropped.", PLAN, BOTH)
P_SOUGHT = P(
    COUNT, "First of layer 0's inputs whose gradient is wanted; where none is, their number.", PLAN, BOTH
)
P_DX = P(WORK, "The gradient of the inputs from there on, (batch, their number).", PLAN, BOTH)
P_LDDX = P(FLOATS, "Leading dimension of that gradient.", PLAN, BOTH)
P_CODES = P(WORK, "The batch's categories, (embeddings, batch).", PLAN, BOTH)
P_RUNS = P(
    COUNT, "Runs of numeric columns, where columns are embedded; they lie behind the layers.", PLAN, BOTH
)
P_EMBEDDINGS = P(COUNT, "Embedded columns; they lie behind the runs.", PLAN, BOTH)
P_SUMS = P(SCRATCH, "Sums of pieces of a long batch, SUM_ROWS rows; then of its chunks.", PLAN, CPU_ALONE)
HEADER = P.size

L = Table("L", "plan: a layer", "One row for each layer, behind the header.")
L_FAN_IN = L(COUNT, "Inputs of the layer.", PLAN, BOTH)
L_FAN_OUT = L(COUNT, "Outputs of the layer.", PLAN, BOTH)
L_ACTIVATION = L(CODE, "Activation that the product's epilogue computes.", PLAN, BOTH)
L_W = L(
    PARAMS, "The weights (inputs, outputs), the bias as their last row, then what else learns.", PLAN, BOTH
)
L_LDW = L(FLOATS, "Leading dimension of the weights.", PLAN, BOTH)
L_X = L(WORK, "The layer's inputs: the batch's, or the outputs of the layer below.", PLAN, BOTH)
L_LDX = L(FLOATS, "Leading dimension of the inputs.", PLAN, BOTH)
L_A = L(WORK, "The layer's outputs.", PLAN, BOTH)
L_LDA = L(FLOATS, "Leading dimension of the outputs, and of all that has their shape.", PLAN, BOTH)
L_DELTA = L(WORK, "The gradient at the product; before that slopes of STORED activations.", PLAN, BOTH)
L_ROWS = L(
    COUNT, "Rows of the parameters: inputs, bias, gain and shift of a norm, slopes of prelu.", PLAN, BOTH
)
L_SPECIAL = L(FLAG, "Whether there is a norm, dropout, a skip or prelu: rows are finished apart.", PLAN, BOTH)
L_LATE = L(CODE, "Activation of a special layer, computed when whole rows are there.", PLAN, BOTH)
L_DERIVE = L(CODE, "How the slope is had: the activation's code, or SLOPE_KEPT.", PLAN, CPU_ALONE)
L_SLOPE = L(WORK, "Slopes that were kept; with a norm, later the gradient at its output.", PLAN, BOTH)
L_NORM = L(CODE, "The norm between product and activation.", PLAN, BOTH)
L_HAT = L(WORK, "Normalised numbers; later times the gradient at the norm's output.", PLAN, BOTH)
L_STAT = L(WORK, "1 / deviation of each row, or STATISTICS rows of each column's.", PLAN, BOTH)
L_RUNNING = L(PARAMS, "Running mean and variance of a batch norm.", PLAN, BOTH)
L_DROPOUT = L(SHARE, "Share of the outputs that is dropped.", PLAN, BOTH)
L_SKIP = L(FLAG, "Whether the inputs are added to the outputs.", PLAN, BOTH)
L_TOTAL = L(WORK, "The gradient at the outputs of a layer with a skip or prelu.", PLAN, BOTH)
L_FROZEN = L(FLAG, "Whether the layer's parameters stay as they are.", PLAN, BOTH)
L_LOW = L(WORK, "What the gradient at the outputs is multiplied by for prelu's slopes.", PLAN, BOTH)
LAYER_COLUMNS = L.size

R = Table("R", "plan: a run of numeric columns", "Where columns are embedded, the others come in runs.")
R_COLUMN = R(COUNT, "First column of X.", PLAN, BOTH)
R_COUNT = R(COUNT, "Columns of the run.", PLAN, BOTH)
R_PLACE = R(COUNT, "Where the run begins in a row of inputs.", PLAN, BOTH)
RUN_COLUMNS = R.size

E = Table("E", "plan: an embedding", "One row for each embedded column, behind the runs.")
E_COLUMN = E(COUNT, "Column of X that holds the categories.", PLAN, BOTH)
E_CATEGORIES = E(COUNT, "Categories, 0 and up.", PLAN, BOTH)
E_WIDTH = E(COUNT, "Numbers that a category becomes.", PLAN, BOTH)
E_PLACE = E(COUNT, "Where they begin in a row of inputs.", PLAN, BOTH)
E_TABLE = E(PARAMS, "Their table (categories, width).", PLAN, BOTH)
E_LD = E(FLOATS, "Leading dimension of the table.", PLAN, BOTH)
E_GRADIENT = E(WORK, "The table's gradient; that of a part of a long batch behind it.", PLAN, CPU_ALONE)
EMBEDDING_COLUMNS = E.size

N = Table("N", "statistics of a batch norm", "Rows at L_STAT, each of a number for each column.")
N_MEAN = N(NUMBER, "Mean.", BOTH, BOTH)
N_VARIANCE = N(NUMBER, "Variance, over the rows.", BOTH, BOTH)
N_INVERSE = N(NUMBER, "1 / sqrt(variance + NORM_EPS).", BOTH, BOTH)
N_SUM = N(NUMBER, "Mean of the gradient, in the backward pass.", CPU, CPU)
N_PRODUCT = N(NUMBER, "Mean of the gradient times the normalised numbers.", CPU, CPU)

# --- hyper

H = Table(
    "H",
    "hyper",
    "What the training's options tell the program; 0 where not used. Behind it, with H_PER_LAYER, a factor "
    "of the learning rate for each layer. An optimizer's own numbers come as constants, see K_CONSTANTS.",
)
H_CLIP_NORM = H(NUMBER, "Largest norm of the whole gradient; 0: no limit.", OPTIONS, BOTH)
H_CLIP_LAYER = H(NUMBER, "Largest norm of a layer's gradient; 0: no limit.", OPTIONS, BOTH)
H_MAX_NORM = H(NUMBER, "Largest norm of the weights into a unit; 0: no limit.", OPTIONS, BOTH)
H_ACCUMULATE = H(COUNT, "Batches of an update.", OPTIONS, BOTH)
H_PER_LAYER = H(FLAG, "Whether layers have constants of their own.", OPTIONS, BOTH)
H_BARE_BIAS = H(FLAG, "Whether biases, and what lies behind them, go without decay.", OPTIONS, BOTH)
HYPER = H.size

# --- call

K = Table("K", "call", "What one call does: mode, steps, threads, and where the data lies.")
K_MODE = K(CODE, "What a step is: codes.TRAIN and what follows it.", SESSION, CPU)
K_THREADS = K(COUNT, "Threads to run on.", SESSION, CPU)
K_COLUMNS = K(COUNT, "Groups that share the columns of each layer; a divisor of the threads.", SESSION, CPU)
K_FIRST = K(COUNT, "First step of the window, of the epoch's.", SESSION, CPU)
K_LAST = K(COUNT, "The step behind its last one.", SESSION, CPU)
K_SAMPLES = K(COUNT, "Samples of the data.", SESSION, CPU)
K_STEP = K(
    COUNT,
    "Updates made before the epoch; of predictions what step 0 drops by, 0: nothing is dropped.",
    SESSION,
    CPU,
)
K_ORDER = K(FLAG, "Whether samples come in the order of the array ``order``.", SESSION, CPU)
K_X = K(ADDRESS, "X; of sparse rows the N + 1 row starts.", SESSION, CPU)
K_X_TYPE = K(CODE, "Its dtype, see codes.DTYPES, plus codes.SPARSE or SHARDED.", SESSION, CPU)
K_X_ROW = K(BYTES, "From a row of X to the next.", SESSION, CPU)
K_X_COL = K(
    BYTES, "From a column of X to the next; of sparse rows and shards the address of a table.", SESSION, CPU
)
K_Y = K(ADDRESS, "Targets; 0: there are none.", SESSION, CPU)
K_Y_TYPE = K(CODE, "Its dtype.", SESSION, CPU)
K_Y_ROW = K(BYTES, "From a row of y to the next.", SESSION, CPU)
K_Y_COL = K(BYTES, "From a column of y to the next.", SESSION, CPU)
K_WEIGHT = K(ADDRESS, "Weights of the samples, of the program's dtype; 0: all alike.", SESSION, CPU)
K_OUT = K(ADDRESS, "Where predictions go, (samples, outputs).", SESSION, CPU)
K_OUT_ROW = K(FLOATS, "From a row of predictions to the next.", SESSION, CPU)
K_SEED = K(NUMBER, "Seed of the order, or of what training steps drop.", SESSION, CPU)
K_STREAM = K(NUMBER, "Which of the seed's orders: the number of the epoch.", SESSION, CPU)
K_TRACE = K(FLAG, "Whether threads note how long each phase takes.", SESSION, CPU)
K_CONSTANTS = K(ADDRESS, "Constants of the window's updates, float64: CONSTANTS a row.", SESSION, CPU)
K_WORKER = K(ADDRESS, "The compiled worker, which ``run`` calls.", SESSION, CPU)
CALL = K.size

A = Table("A", "sparse rows", "What K_X_COL points to where X is a CSR matrix.")
A_INDICES = A(ADDRESS, "Columns of the stored numbers, int32.", DATA, CPU)
A_VALUES = A(ADDRESS, "The stored numbers.", DATA, CPU)
A_ITEM = A(BYTES, "A stored number.", DATA, CPU)
SPARSE_TABLE = A.size

D = Table("D", "a shard", "Where X lies in several arrays: behind their number, a row for each.")
D_FIRST = D(COUNT, "Its first sample.", DATA, CPU)
D_ADDRESS = D(ADDRESS, "Where the array lies.", DATA, CPU)
D_ROW = D(BYTES, "From a row to the next.", DATA, CPU)
D_COL = D(BYTES, "From a column to the next.", DATA, CPU)
SHARD_COLUMNS = D.size

# --- what the CPU's threads share

LINE = 16  # int64 of two cache lines, which cores fetch together: what threads spin on stands so far apart
Y = Table("Y", "sync: where the threads meet", "In front of the traces; places a cache line and more apart.")
Y_ARRIVED = Y(COUNT, "Threads that have come to the team.", CPU, CPU, LINE)
Y_DECIDED = Y(COUNT, "Threads that the team has; 0: not yet decided.", CPU, CPU, LINE)
Y_WAITING = Y(COUNT, "Threads that wait at the barrier.", CPU, CPU, LINE)
Y_GENERATION = Y(COUNT, "Barriers that all have passed.", CPU, CPU, LINE)
Y_PROCESSORS = Y(NUMBER, "Processors that the threads run on, a bit each.", CPU, CPU, LINE)
Y_RAISED = Y(
    FLAG,
    "Whether a thread's arithmetic overflowed on the way to the deltas; behind it: since.",
    CPU,
    CPU,
    LINE,
)
Y_BROKEN = Y(COUNT, "Threads that then found numbers that are not finite.", CPU, CPU, LINE)
SYNC = Y.size

T = Table(
    "T",
    "sync: a thread's trace",
    "Ticks that each phase took, of each thread, behind the places to meet. Behind these fields come "
    "those of each layer.",
)
T_LAST = T(TICKS, "The clock when the last phase ended; 0: nothing is noted.", CPU, CPU)
T_CLAIMED = T(COUNT, "Parts of this thread's weight tiles that somebody has taken.", CPU, CPU)
T_GATHER = T(TICKS, "Rows copied and converted into the batch.", CPU, PYTHON)
T_LOSS = T(TICKS, "The loss and its gradient.", CPU, PYTHON)
T_WAIT = T(TICKS, "Waiting for the other threads.", CPU, PYTHON)
T_CONSTANTS = T(TICKS, "Constants of the update, running statistics.", CPU, PYTHON)
T_CLIP = T(TICKS, "Norms, and the update from the gradient that was kept.", CPU, PYTHON)
T_EMBED = T(TICKS, "Gradient and update of embeddings.", CPU, PYTHON)
T_CONSTRAIN = T(TICKS, "Limits on the weights, and their average.", CPU, PYTHON)
TRACE = T.size

PHASE = Table("PHASE", "sync: a layer in a trace", "Ticks that each phase of a layer took.")
PHASE_FORWARD = PHASE(TICKS, "Outputs of the layer.", CPU, PYTHON)
PHASE_BACKWARD = PHASE(TICKS, "The gradient at the layer's inputs.", CPU, PYTHON)
PHASE_UPDATE = PHASE(TICKS, "The weights' gradient and their update.", CPU, PYTHON)
PHASES = PHASE.size


def trace_size(layers):
    """int64 places of one thread's trace, whole cache lines."""
    return -(-(TRACE + PHASES * layers) // 16) * 16


S = Table("S", "a thread's scratch", "Floats in the work arena. P_PANEL and P_SUMS lie behind the tile.")
S_CONSTANTS = S(
    NUMBER, "Constants of the step; of a layer's weights; of its bias.", CPU, BOTH, -(-3 * CONSTANTS // 8) * 8
)
S_ONE = S(NUMBER, "A one, which is the bias's input.", CPU, CPU, 8)
S_TILE = S(NUMBER, "A tile of a gradient, or BLOCK_ROWS rows of a panel.", CPU, CPU, 0)

RESULT = Table("RESULT", "results", "What a call leaves, float64. Behind these a count for each thread.")
RESULT_LOSS = RESULT(NUMBER, "Sum of the batches' losses since step 0, each times its weight.", CPU, PYTHON)
RESULT_WEIGHT = RESULT(NUMBER, "Sum of these weights.", CPU, PYTHON)
RESULT_STEPS = RESULT(COUNT, "Steps that this call has done.", CPU, PYTHON)
RESULT_THREADS = RESULT(COUNT, "Threads that it used.", CPU, PYTHON)
RESULT_LOST = RESULT(FLAG, "Whether an update has left numbers that are not finite.", CPU, PYTHON)
RESULTS = RESULT.size  # then each thread's right answers; of predictions, rows whose inputs are not finite

# --- many networks in one call

RECORD = Table("RECORD", "many: an epoch", "What an epoch of a network leaves, float64: a row for each.")
RECORD_LOSS = RECORD(NUMBER, "Sum of the batches' losses, each times its weight.", CPU, PYTHON)
RECORD_WEIGHT = RECORD(NUMBER, "Sum of these weights.", CPU, PYTHON)
RECORD_HITS = RECORD(COUNT, "Right answers while it trained.", CPU, PYTHON)
RECORD_VAL_LOSS = RECORD(NUMBER, "Of the validation rows: sum of losses, each times its weight.", CPU, PYTHON)
RECORD_VAL_WEIGHT = RECORD(NUMBER, "Sum of these weights.", CPU, PYTHON)
RECORD_VAL_HITS = RECORD(COUNT, "Right answers of the validation rows.", CPU, PYTHON)
RECORD_LOST = RECORD(FLAG, "Whether its last update has left numbers that are not finite.", CPU, PYTHON)
RECORD_TICKS = RECORD(TICKS, "What the epoch took, validation included.", CPU, PYTHON)
RECORDS = RECORD.size

M = Table(
    "M",
    "many: a network",
    "One row for each network of a call for many, behind it its two passes: training, then validation.",
)
M_STATE = M(CODE, "Whether it waits, is taken, has done its epochs or stopped, see codes.WAITING.", BOTH, CPU)
M_SLOTS = M(ADDRESS, "Its optimizer's arrays.", SESSION, CPU)
M_HYPER = M(ADDRESS, "Its table hyper.", SESSION, CPU)
M_CONSTANTS = M(ADDRESS, "Constants of the updates of the epochs to do, CONSTANTS a row.", SESSION, CPU)
M_RECORD = M(ADDRESS, "The records of the epochs to do, RECORDS numbers each.", SESSION, CPU)
M_EPOCHS = M(COUNT, "Epochs to do until Python looks.", SESSION, CPU)
M_EPOCH = M(COUNT, "Epochs of these that are done.", BOTH, CPU)
M_STEP = M(COUNT, "Steps done of the epoch that has begun.", BOTH, CPU)
M_TURN = M(TICKS, "When a thread leaves it for the next.", SESSION, CPU)
M_CHUNK = M(COUNT, "Steps between two looks at the clock; whole updates.", SESSION, CPU)
M_EVERY = M(COUNT, "Batches of an update.", SESSION, CPU)
M_NUMBER = M(COUNT, "Updates made before the first of these epochs.", SESSION, CPU)
M_SHUFFLED = M(FLAG, "Whether each epoch has an order of its own.", SESSION, CPU)
M_SEED = M(NUMBER, "Seed of the orders, and of what training steps drop.", SESSION, CPU)
M_STREAM = M(NUMBER, "Number of the first of these epochs: which of the seed's orders it has.", SESSION, CPU)
M_SNAPSHOTS = M(ADDRESS, "Room for the parameters after each of these epochs, or 0.", SESSION, CPU)
MANY = M.size

V = Table("V", "many: a pass", "What a pass over rows reads; steps 0: there is none.")
V_PARAMS = V(ADDRESS, "The parameters.", SESSION, CPU)
V_PLAN = V(ADDRESS, "The plan.", SESSION, CPU)
V_CALL = V(ADDRESS, "The call, but for what changes from step to step.", SESSION, CPU)
V_NUMBERS = V(ADDRESS, "The loss's own numbers, float64, which go to P_NUMBERS.", SESSION, CPU)
V_COUNT = V(COUNT, "How many there are.", SESSION, CPU)
V_WORK = V(FLOATS, "Length of the work arena: the part of a thread's that is cleared.", SESSION, CPU)
V_ROWS = V(ADDRESS, "Numbers of the rows, int32; 0: all rows of the data.", SESSION, CPU)
V_STEPS = V(COUNT, "Steps of the whole pass.", SESSION, CPU)
PASS = V.size

B = Table("B", "many: the call", "What all threads of a call for many share.")
B_NETWORKS = B(COUNT, "Rows of the table of networks.", SESSION, CPU)
B_THREADS = B(COUNT, "Threads that share them out.", SESSION, CPU)
B_WORKER = B(ADDRESS, "The compiled worker.", SESSION, CPU)
B_BUDGET = B(TICKS, "When this many have passed, no thread begins another chunk.", SESSION, CPU)
B_SPENT = B(TICKS, "How many passed.", CPU, PYTHON)
B_NEXT = B(COUNT, "Networks that were asked for so far: whose turn it is.", BOTH, CPU, LINE)
BATCHES = B.size

# --- the GPU's own

G = Table(
    "G",
    "state of the GPU",
    "In front of the plan in the GPU's table: what a step reads, and leaves for the next.",
)
G_MODE = G(CODE, "What a step is: codes.TRAIN and what follows it.", SESSION, GPU)
G_STEP = G(COUNT, "Steps done since step 0.", GPU, GPU)
G_ROWS = G(COUNT, "Rows of the step's batch.", GPU, GPU)
G_SAMPLES = G(COUNT, "Samples of the data.", SESSION, GPU)
G_NUMBER = G(
    COUNT,
    "Updates made so far; of predictions the number that step 0 drops by, 0: nothing is dropped.",
    GPU,
    GPU,
)
G_HITS = G(COUNT, "Right answers; of predictions, numbers of inputs that are not finite.", GPU, PYTHON)
G_STOPPED = G(FLAG, "Whether a loss was not finite: nothing changes any more.", GPU, GPU)
G_BROKEN = G(FLAG, "Whether an update has met or made numbers that are not finite.", GPU, GPU)
G_ORDERED = G(FLAG, "Whether samples come in a shuffled order.", SESSION, GPU)
G_FIRST = G(COUNT, "Sample number of the first row that lies on the device.", SESSION, GPU)
G_X_ROW = G(COUNT, "Numbers from a row of X to the next.", SESSION, GPU)
G_X_COL = G(COUNT, "Numbers from a column of X to the next.", SESSION, GPU)
G_TARGETED = G(COUNT, "Numbers of a sample's target; 0: there are no targets.", SESSION, GPU)
G_WEIGHTED = G(FLAG, "Whether samples have weights.", SESSION, GPU)
G_PARTS = G(COUNT, "Parts of the batch that weight tiles are summed in.", SESSION, GPU)
G_STORE = G(PARAMS, "Where gradients go that are not used at once.", SESSION, GPU)
G_SEED = G(NUMBER, "Seed of what training steps drop.", SESSION, GPU)
G_EVERY = G(COUNT, "Batches of an update.", SESSION, GPU)
G_DROPS = G(COUNT, "Number of the batch, for what is dropped; 0: nothing is.", GPU, GPU)
G_PART = G(COUNT, "Which of an update's batches this is.", GPU, GPU)
G_UPDATES = G(FLAG, "Whether the update is made with this batch.", GPU, GPU)
G_KEEPS = G(CODE, "What is done with gradients that are kept: STORE or ADD.", GPU, GPU)
G_APART = G(COUNT, "Numbers from the step's constants to a layer's; 0: all have the same.", SESSION, GPU)
DEVICE = -(-G.size // 8) * 8  # whole cache lines

U = Table(
    "U",
    "numbers of the GPU",
    "float64, behind hyper in one array. Behind them the layers' factors, then the constants of the window's "
    "updates.",
    first=HYPER,
)
U_LOSS = U(NUMBER, "Sum of the batches' losses since step 0, each times its weight.", GPU, PYTHON)
U_WEIGHT = U(NUMBER, "Sum of these weights.", GPU, PYTHON)
U_FACTOR = U(NUMBER, "What kept gradients are multiplied by: clipping, batches of an update.", GPU, GPU)
U_FIRST = U(COUNT, "The update, of the pass's, that the first constants are of.", SESSION, GPU)
NUMBERS = -(-U.size // 8) * 8

for _table in Table.all.values():
    _table.name_fields(globals())
