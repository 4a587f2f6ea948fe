"""Inference by each peer: a function from rows (N, inputs) to probabilities (N, outputs), NumPy to NumPy."""

import importlib.util
import time

import numpy as np

NEEDS = {
    "fastbp": ("numba",),
    "numpy": ("numpy",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "torch": ("torch",),
    "jax": ("jax",),
}


def installed():
    return [name for name, needs in NEEDS.items() if all(map(importlib.util.find_spec, needs))]


def fastbp(case, threads):
    import fastbp as fb

    net = fb.MLP(case.sizes, case.activation, seed=0)
    for W, b, (W0, b0) in zip(net.weights, net.biases, case.weights(), strict=True):
        W[:], b[:] = W0, b0
    return fb.Trainer(net, batch_size=case.batch).predict


def numpy(case, threads):
    params = case.weights()

    def predict(x):
        for W, b in params[:-1]:
            x = x @ W
            x += b
            np.maximum(x, 0, out=x)
        z = x @ params[-1][0]
        z += params[-1][1]
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    return predict


def torch(case, threads):
    import torch

    torch.set_num_threads(threads)
    layers = []
    for W, b in case.weights():
        linear = torch.nn.Linear(*W.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(W.T.copy()), torch.from_numpy(b)
        layers += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1], torch.nn.Softmax(dim=1)).eval()

    def predict(x):
        with torch.inference_mode():
            return net(torch.from_numpy(x)).numpy()

    return predict


def jax(case, threads):
    import jax

    params = jax.device_put(case.weights())

    @jax.jit
    def outputs(params, x):
        for W, b in params[:-1]:
            x = jax.nn.relu(x @ W + b)
        return jax.nn.softmax(x @ params[-1][0] + params[-1][1])

    return lambda x: np.asarray(outputs(params, x))


def onnxruntime(case, threads):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for k, (W, b) in enumerate(case.weights()):
        constants += [numpy_helper.from_array(W, f"W{k}"), numpy_helper.from_array(b, f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"W{k}", f"b{k}"], [f"z{k}"]))
        last = k == len(case.layers) - 1
        name = "p" if last else f"a{k}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{k}"], [name]))
    values = [
        helper.make_tensor_value_info(text, TensorProto.FLOAT, [None, size])
        for text, size in (("x", case.sizes[0]), ("p", case.sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": x})[0]


class Server:
    """What a worker can be asked for inference; see workers.Worker."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads

    def open(self, case, rows):
        """Make the predictor and some rows; the first outputs."""
        self.predict = globals()[self.name](case, self.threads)
        rng = np.random.default_rng(3)
        self.x = rng.standard_normal((rows, case.sizes[0]), np.float32)
        return np.array(self.predict(self.x)[:256])

    def one(self):
        """The outputs for the first row alone."""
        return np.array(self.predict(self.x[:1]))

    def run(self, calls):
        """Seconds of so many calls."""
        predict, x = self.predict, self.x
        start = time.perf_counter()
        for _ in range(calls):
            predict(x)
        return time.perf_counter() - start
