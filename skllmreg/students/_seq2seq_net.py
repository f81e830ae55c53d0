"""The tokens, training loop and energies behind `Seq2SeqTransformer`; imported when one is fitted.

Pairs are sorted by length before they are cut into batches, so that little is padded, and padding
is masked in the attention, the loss and the energy.
"""

import copy
import string

import numpy as np
import torch

from skllmreg.nn import SymmetricCrossEntropyLoss
from skllmreg.students._transformer_net import quiet

IGNORED = -100  # label of padding
WARM_UP = 0.05  # share of the steps in which the learning rate grows
LARGEST_GRADIENT = 1.0
BUCKET = 50  # batches whose pairs are sorted by length together


class Characters:
    """Each character is a token; what was not seen in training is the unknown one.

    Parameters
    ----------
    texts : iterable of str
        Their characters, and those of ASCII, are the alphabet.
    """

    pad, eos, unknown = 0, 1, 2

    def __init__(self, texts):
        alphabet = sorted(set(string.printable).union(*texts))
        self.codes = {character: code for code, character in enumerate(alphabet, start=3)}
        self.characters = {code: character for character, code in self.codes.items()}

    def __len__(self):
        return 3 + len(self.codes)

    def inputs(self, texts, most):
        """Encode texts as lists of tokens, the end of the text last."""
        codes = self.codes
        return [
            [*(codes.get(character, self.unknown) for character in text[: most - 1]), self.eos]
            for text in texts
        ]

    targets = inputs

    def text(self, tokens):
        """Decode up to the end of the text."""
        return "".join(self.characters.get(int(token), "") for token in tokens)


class Subwords:
    """A tokenizer of transformers, asked for lists of tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.pad, self.eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        if self.pad is None or self.eos is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no pad_token or no eos_token, and a model that "
                "writes texts needs both: tokenizer.add_special_tokens({...})."
            )

    def __len__(self):
        return len(self.tokenizer)

    def inputs(self, texts, most):
        """Encode inputs as lists of tokens."""
        return self.tokenizer(texts, truncation=True, max_length=most)["input_ids"]

    def targets(self, texts, most):
        """Encode targets as lists of tokens, the end of the text last."""
        found = self.tokenizer(text_target=texts, truncation=True, max_length=most)["input_ids"]
        return [
            tokens if tokens[-1:] == [self.eos] else [*tokens[: most - 1], self.eos]
            for tokens in found
        ]

    def text(self, tokens):
        """Decode without special tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def make_tokenizer(tokenizer, model, texts):
    """Resolve the parameter `tokenizer` of `Seq2SeqTransformer`.

    Parameters
    ----------
    tokenizer : "characters", str, tokenizer or None
    model : str or PretrainedConfig
    texts : list of str
        What the alphabet of characters is learned from.

    Returns
    -------
    Characters or Subwords
    """
    from transformers import AutoTokenizer

    if tokenizer is None:
        tokenizer = model if isinstance(model, str) else "characters"
    if not isinstance(tokenizer, str):
        return Subwords(copy.deepcopy(tokenizer))
    if tokenizer == "characters":
        return Characters(texts)
    with quiet():
        return Subwords(AutoTokenizer.from_pretrained(tokenizer))


def make_model(model, tokenizer):
    """Load a pretrained model, or draw the weights of a configuration.

    Parameters
    ----------
    model : str or PretrainedConfig
    tokenizer : Characters or Subwords
        Its size is that of a new model's vocabulary.

    Returns
    -------
    PreTrainedModel
    """
    from transformers import AutoModelForSeq2SeqLM

    with quiet():
        if isinstance(model, str):
            loaded = AutoModelForSeq2SeqLM.from_pretrained(model)
            if len(tokenizer) > loaded.get_input_embeddings().num_embeddings:
                loaded.resize_token_embeddings(len(tokenizer))
            return loaded
        config = copy.deepcopy(model)
        config.vocab_size = len(tokenizer)
        config.pad_token_id = config.decoder_start_token_id = tokenizer.pad
        config.eos_token_id = tokenizer.eos
        return AutoModelForSeq2SeqLM.from_config(config)


def train(model, pairs, *, loss, alpha, max_epochs, batch_size, lr, weight_decay):
    """Train a model in place.

    Parameters
    ----------
    model : PreTrainedModel
    pairs : (list of list of int, list of list of int)
        Tokens of the inputs and of the targets.
    loss : {"ce", "symmetric"}
    alpha : float
        Weight of the cross-entropy in the symmetric loss.
    max_epochs, batch_size : int
    lr, weight_decay : float

    Returns
    -------
    list of float
        Mean loss of each epoch.
    """
    n_batches = -(-len(pairs[0]) // batch_size)
    n_steps = max_epochs * n_batches
    n_warm = max(1, round(WARM_UP * n_steps))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)

    def share(step):
        """Share of the largest learning rate: up, then down, linearly."""
        return min((step + 1) / n_warm, (n_steps - step) / max(1, n_steps - n_warm))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=IGNORED)
    if loss == "symmetric":
        criterion = SymmetricCrossEntropyLoss(alpha, ignore_index=IGNORED)
    curve = []
    model.train()
    for _ in range(max_epochs):
        total = 0.0
        for rows in _shuffled(pairs, batch_size):
            batch = _padded(model, pairs, rows)
            logits = model(**batch).logits
            value = criterion(logits.transpose(1, 2), batch["labels"])
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            total += len(rows) * value.item()
        curve.append(total / len(pairs[0]))
    model.eval()
    return curve


@torch.no_grad()
def write(model, inputs, most, batch_size):
    """Write a target for each input, greedily.

    Parameters
    ----------
    model : PreTrainedModel
    inputs : list of list of int
    most : int
        Maximum number of tokens of a target.
    batch_size : int

    Returns
    -------
    list of list of int
        Tokens, without the one that starts every target and without what follows the end.
    """
    found: list = [None] * len(inputs)
    end = model.config.eos_token_id
    for rows in _sorted(inputs, batch_size):
        batch = _padded(model, (inputs,), rows)
        written = model.generate(**batch, max_new_tokens=most, num_beams=1, do_sample=False)
        for row, tokens in zip(rows, written[:, 1:].tolist(), strict=True):
            found[row] = tokens[: tokens.index(end)] if end in tokens else tokens
    return found


@torch.no_grad()
def energies(model, pairs, batch_size, temperature):
    """Energy of each pair: the mean over the target's tokens of -T logsumexp(logits / T).

    Parameters
    ----------
    model : PreTrainedModel
    pairs : (list of list of int, list of list of int)
    batch_size : int
    temperature : float

    Returns
    -------
    ndarray of shape (n_pairs,)
    """
    found = np.empty(len(pairs[0]))
    for rows in _sorted(pairs[0], batch_size):
        batch = _padded(model, pairs, rows)
        logits = model(**batch).logits.double()
        each = -temperature * torch.logsumexp(logits / temperature, dim=-1)
        counts = batch["labels"] != IGNORED
        found[rows] = ((each * counts).sum(dim=1) / counts.sum(dim=1)).cpu().numpy()
    return found


def _padded(model, pairs, rows):
    """Make the arguments of a model's forward of some pairs, or of inputs alone."""
    pad, device = model.config.pad_token_id, model.device
    inputs = [torch.tensor(pairs[0][row]) for row in rows]
    batch = {
        "input_ids": torch.nn.utils.rnn.pad_sequence(inputs, True, pad),
        "attention_mask": torch.nn.utils.rnn.pad_sequence(
            [torch.ones_like(tokens) for tokens in inputs], True, 0
        ),
    }
    if len(pairs) > 1:
        targets = [torch.tensor(pairs[1][row]) for row in rows]
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(targets, True, IGNORED)
    return {name: values.to(device) for name, values in batch.items()}


def _sorted(inputs, batch_size):
    """Yield the rows of each batch, inputs of like length together."""
    order = np.argsort([len(tokens) for tokens in inputs], kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _shuffled(pairs, batch_size):
    """Yield the rows of each batch in random order, those of like length together in part."""
    order = torch.randperm(len(pairs[0])).numpy()
    lengths = np.array([len(x) + len(y) for x, y in zip(*pairs, strict=True)])
    batches = []
    for start in range(0, len(order), BUCKET * batch_size):
        some = order[start : start + BUCKET * batch_size]
        some = some[np.argsort(lengths[some], kind="stable")]
        batches += [some[i : i + batch_size] for i in range(0, len(some), batch_size)]
    for at in torch.randperm(len(batches)).tolist():
        yield batches[at]
