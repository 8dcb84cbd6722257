"""Networks of one shape trained together as one network, for a GPU, of which a single one leaves most idle.

The members of a stack share nothing: every weight has a leading axis of members, every member its own spectra, seed and
order of batches. Each ends as it would alone, but for rounding. What trains a stack is `loop.fit`, as any network.
"""
import numpy as np

from training import backend
from training.backend import tf


class Stack:
    """Networks with the same layers as one; their own weights change only with `unstack`."""

    def __init__(self, members):
        self.members = members
        self.trainable_variables = [backend.variable(np.stack(w)) for w in zip(*(m.get_weights() for m in members))]

    def order(self, epoch, n_spectra):
        """Order of the spectra in an epoch, a column a member, (n_spectra, n_members)."""
        return np.stack([member.order(epoch, n_spectra) for member in self.members], axis=1)

    def layers(self):
        """Kernel, with the members first, and bias, which is broadcast over the spectra, of each layer in order."""
        kernels, biases = ([tf.convert_to_tensor(w) for w in self.trainable_variables[k::2]] for k in (0, 1))
        return [(kernel, bias[:, None]) for kernel, bias in zip(kernels, biases)]

    def unstack(self):
        """Give the weights back to the members."""
        for member, *weights in zip(self.members, *(w.numpy() for w in self.trainable_variables)):
            member.set_weights(weights)


class CnnStack(Stack):
    """CNNs of `networks.build_cnn` as one."""

    def __call__(self, x):
        """Outputs, (batch_size, n_members), of encodings of shape (batch_size, n_members, n_latent, 1)."""
        h = tf.transpose(x, (1, 0, 2, 3))
        *hidden, (last, offset) = self.layers()
        for kernel, bias in hidden[:2]:  # a convolution of width 2 is a product with two neighbours side by side
            pairs = tf.concat([h, tf.pad(h[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))], axis=-1)
            kernel = tf.reshape(kernel, (len(self.members), -1, kernel.shape[-1]))
            h = tf.nn.relu(tf.einsum("mblc,mcf->mblf", pairs, kernel) + bias[:, None])
        h = tf.reshape(h, (len(self.members), -1, h.shape[2] * h.shape[3]))
        for kernel, bias in hidden[2:]:
            h = tf.nn.relu(h @ kernel + bias)
        return tf.transpose((h @ last + offset)[..., 0])

    def squared_error(self, x, y):
        """Terms of a batch's loss: the sum to be made small, and of each member its mean squared error."""
        return terms(loss=tf.reduce_mean(tf.square(self(x) - y[..., 0]), axis=0))


class AutoencoderStack(Stack):
    """Autoencoders of `networks.build_autoencoder` as one, which may differ in their `reg_par`."""

    def __init__(self, members):
        super().__init__(members)
        self.seeds = [member.seed for member in members]
        self.dense = [layer for layer in members[0].layers if layer.weights]
        regularizers = [[member.get_layer(layer.name).activity_regularizer for member in members]
                        for layer in self.dense]
        self.strengths = np.array([[float(r.l1) if r else 0 for r in row] for row in regularizers], np.float32)

    def outputs(self, x):
        """Outputs of all layers in order, each (n_members, batch_size, n_units), of x, (batch_size, n_members, ...)."""
        h, outputs = tf.transpose(x, (1, 0, 2)), []
        for layer, (kernel, bias) in zip(self.dense, self.layers()):
            h, kernel, bias = (tf.cast(part, layer.compute_dtype) for part in (h, kernel, bias))
            h = layer.activation(h @ kernel + bias)
            outputs.append(h)
        return outputs

    def activity(self, outputs):
        """What the L1 regularisers of its layers add to the loss of each member, (n_members,)."""
        sums = [strength * tf.reduce_sum(tf.abs(tf.cast(h, tf.float32)), axis=(1, 2))
                for strength, h in zip(self.strengths, outputs) if strength.any()]
        return sum(sums, 0.0) / tf.cast(tf.shape(outputs[0])[1], tf.float32)


def terms(**of_members):
    """Terms of a stack's loss from those of its members, (n_members,): the sum of the first is to be made small."""
    total = tf.reduce_sum(next(iter(of_members.values())))
    return {"sum": total, **{(name, k): value for name, values in of_members.items()
                             for k, value in enumerate(tf.unstack(values))}}


def histories(history, n_members):
    """The history of each member of a stack, a list of dicts, from what `loop.fit` returns of it."""
    names = [name for name, k in list(history)[1:] if k == 0]
    return [{name: history[name, k] for name in names} for k in range(n_members)]


def same_rows(rows, n_members):
    """The same rows for each member, a column a member."""
    return np.repeat(rows[:, None], n_members, axis=1)


def groups(units, n, alike):
    """Units in lists of at most `n` that may be trained together: those for which alike(unit) is equal."""
    keys = [alike(unit) for unit in units]
    distinct = [key for k, key in enumerate(keys) if key not in keys[:k]]
    together = [[unit for unit, other in zip(units, keys) if other == key] for key in distinct]
    return [group[k : k + n] for group in together for k in range(0, len(group), n)]


def warn(args):
    """Say that a stack is no help where there is no GPU."""
    if args.stack > 1 and not backend.has_gpu():
        print("warning: --stack is slower than --jobs on a processor, and TensorFlow sees no GPU")
