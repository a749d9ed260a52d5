"""Interpolated modified Kneser-Ney n-gram model over fathom shards: the yardstick for a small model.

    python3 tools/kneser_ney.py --train train.bin [more.bin ...] --eval val.bin [--order 5] [--bytes N]
    python3 tools/kneser_ney.py --self-test

Prints bits per token and bits per byte. Every token of a document but its BOS is predicted, EOS included, from up to
order-1 tokens before it in the same document; bits per byte divides by the shard's UTF-8 byte count (or --bytes). Needs
NumPy. Chen and Goodman 1998, section 3, with the adjusted counts of Heafield et al. 2013: an n-gram below the highest
order counts the different tokens seen before it; one that opens a document has none and keeps its plain count.
"""

import argparse
import struct
import sys

import numpy as np

HEADER_BYTES = 128  # layout: src/train/shard.h


class Shard:
    """Tokens, document starts and byte count of one shard file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        if len(data) < HEADER_BYTES or data[:8] != b"FTHMSHRD":
            raise SystemExit(f"{path}: not a token shard")
        version, width, self.vocab_size, _flags, num_tokens, num_documents, self.text_bytes, self.tokenizer_hash = \
            struct.unpack_from("<4I4Q", data, 8)
        if version != 1 or width not in (2, 4):
            raise SystemExit(f"{path}: shard version {version} with {width}-byte tokens is not known to this tool")
        starts_at = HEADER_BYTES + (num_tokens * width + 7) // 8 * 8
        if len(data) < starts_at + 8 * num_documents:
            raise SystemExit(f"{path}: shorter than its header says")
        dtype = np.uint16 if width == 2 else np.uint32
        self.tokens = np.frombuffer(data, dtype, num_tokens, HEADER_BYTES).astype(np.int64)
        self.starts = np.frombuffer(data, np.uint64, num_documents, starts_at).astype(np.int64)


def depth_in_document(num_tokens, starts):
    """[T] how many tokens of its document stand before each token."""
    begin = np.zeros(num_tokens, np.int64)
    begin[starts] = starts
    return np.arange(num_tokens) - np.maximum.accumulate(begin)


class KneserNey:
    """The n-grams of order k are the sorted int64 keys (id of the first k-1 tokens) * vocab + (last token), so an
    n-gram's id is its rank and all its continuations lie next to each other."""

    def __init__(self, tokens, starts, vocab_size, order):
        self.vocab_size, self.order = vocab_size, order
        depth = depth_in_document(len(tokens), starts)
        # Raw counts, ids of the n-gram ending at each position (-1 where the document is too short), one place of each.
        self.keys, raw, first, grams = [], [], [], []
        for k in range(1, order + 1):
            places = np.flatnonzero(depth >= k - 1)
            key = tokens[places].copy()
            if k > 1:
                key += grams[-1][places - 1] * vocab_size
            unique, index, inverse, counts = np.unique(key, return_index=True, return_inverse=True,
                                                       return_counts=True)
            gram = np.full(len(tokens), -1, np.int64)
            gram[places] = inverse
            self.keys.append(unique)
            raw.append(counts)
            first.append(places[index])
            grams.append(gram)
        self.levels = []
        for k in range(1, order + 1):
            counts = raw[k - 1]
            if k < order:
                # One distinct left neighbour per (k+1)-gram; its place also tells the id of its last k tokens.
                left = np.bincount(grams[k - 1][first[k]], minlength=len(counts))
                counts = np.where(left == 0, counts, left)
            if k == 1:
                # What only ever opens documents (BOS) is never predicted.
                opens = np.bincount(grams[0][depth == 0], minlength=len(counts))
                counts = np.where(opens == raw[0], 0, counts)
            self.levels.append(self._level(k, counts))

    def _level(self, k, counts):
        """(discounted count of each n-gram, total and backed-off mass of each context)"""
        n1, n2, n3, n4 = (np.count_nonzero(counts == c) for c in (1, 2, 3, 4))
        discounts = np.array([0.0, 0.5, 1.0, 1.5])  # for corpora too small for the estimate
        if min(n1, n2, n3, n4) > 0:
            y = n1 / (n1 + 2 * n2)
            estimate = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
            if np.all(estimate >= 0) and np.all(estimate <= np.arange(4)):
                discounts = estimate
        discount = discounts[np.minimum(counts, 3)]
        context = self.keys[k - 1] // self.vocab_size  # order 1: all zero
        num_contexts = 1 if k == 1 else len(self.keys[k - 2])
        total = np.bincount(context, weights=counts, minlength=num_contexts)
        backed_off = np.bincount(context, weights=discount, minlength=num_contexts)
        return counts - discount, total, backed_off

    def _find(self, k, key):
        """Id of each key among the n-grams of order k, -1 where there is none."""
        index = np.minimum(np.searchsorted(self.keys[k - 1], key), len(self.keys[k - 1]) - 1)
        return np.where(self.keys[k - 1][index] == key, index, -1)

    def probabilities(self, tokens, starts):
        """[T] p(token | the order-1 tokens before it in its document)."""
        depth = depth_in_document(len(tokens), starts)
        probability = np.full(len(tokens), 1.0 / self.vocab_size)
        gram = np.zeros(len(tokens), np.int64)  # the empty n-gram
        for k in range(1, self.order + 1):
            # Context: the (k-1)-gram that ends one token earlier, or -1 if unseen or cut by the document's start.
            context = np.zeros(len(tokens), np.int64)
            if k > 1:
                context[0] = -1
                context[1:] = gram[:-1]
                context[depth < k - 1] = -1
            gram = np.where(context >= 0, self._find(k, np.maximum(context, 0) * self.vocab_size + tokens), -1)
            discounted, total, backed_off = self.levels[k - 1]
            known = (context >= 0) & (total[context] > 0)
            of = context[known]
            own = np.where(gram[known] >= 0, discounted[gram[known]], 0.0)
            probability[known] = (own + backed_off[of] * probability[known]) / total[of]
        return probability


def load_training(paths):
    """All shards as one: tokens, starts, vocabulary size, tokenizer."""
    shards = [Shard(path) for path in paths]
    if len({(s.vocab_size, s.tokenizer_hash) for s in shards}) != 1:
        raise SystemExit("the training shards were made with different tokenizers")
    offsets = np.cumsum([0] + [len(s.tokens) for s in shards])
    starts = np.concatenate([s.starts + offset for s, offset in zip(shards, offsets)])
    return np.concatenate([s.tokens for s in shards]), starts, shards[0].vocab_size, shards[0].tokenizer_hash


def evaluate(model, shard, text_bytes):
    """(predicted tokens, bits per token, bits per byte)"""
    predicted = depth_in_document(len(shard.tokens), shard.starts) > 0
    bits = -np.log2(model.probabilities(shard.tokens, shard.starts)[predicted])
    return len(bits), bits.mean(), bits.sum() / text_bytes


def naive_probability(tokens, starts, vocab_size, order, context, word):
    """The definition, by dictionaries and recursion: what self_test compares with."""
    ends = list(starts[1:]) + [len(tokens)]
    documents = [tuple(tokens[b:e]) for b, e in zip(starts, ends)]
    raw = {}
    for document in documents:
        for k in range(1, order + 1):
            for i in range(len(document) - k + 1):
                raw[document[i:i + k]] = raw.get(document[i:i + k], 0) + 1
    left = {}
    for gram in raw:
        if len(gram) > 1:
            left.setdefault(gram[1:], set()).add(gram[0])
    openers = {d[0] for d in documents if all(d[0] not in e[1:] for e in documents)}

    def adjusted(gram):
        if len(gram) == 1 and gram[0] in openers:
            return 0
        return raw[gram] if len(gram) == order or gram not in left else len(left[gram])

    def discounts(k):
        counts = [adjusted(g) for g in raw if len(g) == k]
        n = [counts.count(c) for c in range(5)]
        if min(n[1:]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            estimate = [0] + [c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3)]
            if all(0 <= d <= c for c, d in enumerate(estimate)):
                return estimate
        return [0, 0.5, 1.0, 1.5]

    def p(context, word):
        lower = p(context[1:], word) if context else 1 / vocab_size
        following = {g: adjusted(g) for g in raw if g[:-1] == context}
        total = sum(following.values())
        if total == 0:
            return lower
        d = discounts(len(context) + 1)
        own = following.get(context + (word,), 0)
        mass = sum(d[min(c, 3)] for c in following.values())
        return (own - d[min(own, 3)] + mass * lower) / total

    return p(tuple(context[max(0, len(context) - order + 1):]), word)


def self_test():
    """Probabilities sum to one over the vocabulary and equal the definition, on small random corpora."""
    for seed, vocab_size, order in [(1, 6, 5), (2, 12, 3), (3, 4, 5), (4, 9, 1)]:
        rng = np.random.default_rng(seed)
        documents = [[0] + list(rng.choice(np.arange(1, vocab_size - 1), rng.integers(3, 40))) for _ in range(12)]
        tokens = np.array([t for d in documents for t in d], np.int64)  # the last id of the vocabulary stays unseen
        starts = np.cumsum([0] + [len(d) for d in documents[:-1]])
        model = KneserNey(tokens, starts, vocab_size, order)
        worst_sum = worst_difference = 0.0
        for _ in range(40):
            context = [0] * int(rng.integers(2)) + list(rng.integers(1, vocab_size, rng.integers(0, 6)))
            if not context:
                context = [0]
            length = len(context) + 1
            every = np.array([context + [w] for w in range(vocab_size)], np.int64).ravel()
            p = model.probabilities(every, np.arange(vocab_size) * length)[length - 1::length]
            worst_sum = max(worst_sum, abs(p.sum() - 1))
            for word in range(vocab_size):
                reference = naive_probability(list(tokens), list(starts), vocab_size, order, context, word)
                worst_difference = max(worst_difference, abs(p[word] - reference))
        print(f"vocab {vocab_size:3d} order {order}: |sum - 1| <= {worst_sum:.1e}, "
              f"|p - definition| <= {worst_difference:.1e}")
        if worst_sum > 1e-12 or worst_difference > 1e-12:
            raise SystemExit("self-test failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", metavar="SHARD")
    parser.add_argument("--eval", nargs="+", metavar="SHARD")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--bytes", type=int, help="UTF-8 bytes behind the tokens of the one --eval shard")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    if not args.train or not args.eval or args.order < 1 or (args.bytes and len(args.eval) > 1):
        parser.error("give --train and --eval shards (one --eval shard with --bytes), or --self-test")
    tokens, starts, vocab_size, tokenizer_hash = load_training(args.train)
    model = KneserNey(tokens, starts, vocab_size, args.order)
    print(f"trained on {len(tokens)} tokens; n-grams: " + ", ".join(str(len(k)) for k in model.keys))
    for path in args.eval:
        shard = Shard(path)
        if shard.tokenizer_hash != tokenizer_hash or shard.vocab_size != vocab_size:
            raise SystemExit(f"{path}: made with another tokenizer than the training shards")
        count, per_token, per_byte = evaluate(model, shard, args.bytes or shard.text_bytes)
        print(f"{path}: {count} tokens, {per_token:.4f} bits per token, {per_byte:.4f} bits per byte")
    return None


if __name__ == "__main__":
    sys.exit(main())
