"""The prefix tree knows all lines of a catalogue and nothing else, in the tokens that training shows."""

from rporec_recbole.backbone.prefix_tree import PrefixTree, tree_of_lines
from rporec_recbole.backbone.tiny import train_tokenizer

LINES = (
    "",
    "Heat | Crime | 1995",
    "Heat | Crime | 1986",
    "Heathers | Comedy | 1989",
    "Up | Animation | 2009",
    "Heat | Crime | 1995",
)


def paths(tree: PrefixTree) -> dict[tuple[int, ...], list[int]]:
    """Every way from the root to a leaf, with its items."""
    found, open_nodes = {}, [((), tree.root)]
    while open_nodes:
        path, node = open_nodes.pop()
        if node.is_leaf:
            found[path] = tree.items(node)
            continue
        tokens, nodes = tree.children(node)
        assert len(tokens) > 1  # what is forced is no node
        for token, below in zip(tokens.tolist(), nodes, strict=True):
            between = tree.between(node, below)
            assert between[0] == token
            open_nodes.append(((*path, *between), below))
    return found


def test_ways_are_the_sequences():
    tree = PrefixTree([[1, 2, 3], [1, 2, 4], [5], [1, 2, 3]], [7, 8, 9, 3])
    assert paths(tree) == {(1, 2, 3): [3, 7], (1, 2, 4): [8], (5,): [9]}
    assert len(tree) == 3
    assert tree.depth == 3


def test_what_all_share_stands_before_the_root():
    tree = PrefixTree([[1, 2, 3], [1, 2, 4]], [1, 2])
    assert tree.root.depth == 2
    assert tree.children(tree.root)[0].tolist() == [3, 4]
    assert PrefixTree([[4, 4]], [1]).root.is_leaf


def test_lines_become_the_tokens_of_training():
    tokenizer = train_tokenizer([*LINES] * 3, 400)
    tree, again = tree_of_lines(LINES, tokenizer)
    assert again == []
    whole = tokenizer([f"<answer>{line}</answer>" for line in LINES[1:]], add_special_tokens=False)["input_ids"]
    expected: dict[tuple[int, ...], list[int]] = {}
    for item, tokens in enumerate(whole, start=1):
        expected.setdefault(tuple(tokens[1:]), []).append(item)
    assert paths(tree) == expected
    assert [1, 5] in expected.values()


class Joins:
    """A tokenizer that joins the end of a tag with a bracket behind it, and the end of a line with the tag behind it."""

    pieces = ("</think><answer", "</answer>", "!</answer>", ">(", ">", "A", "B", "(", ")", "!")

    def __call__(self, texts, add_special_tokens):
        if isinstance(texts, str):
            return {"input_ids": self._one(texts)}
        return {"input_ids": [self._one(text) for text in texts]}

    def _one(self, text):
        tokens = []
        while text:
            piece = max((p for p in self.pieces if text.startswith(p)), key=len)
            tokens.append(self.pieces.index(piece))
            text = text[len(piece) :]
        return tokens


def test_tokens_that_cross_the_border_of_a_tag():
    tree, again = tree_of_lines(("", "A", "(B)", "A!"), Joins())
    joined = Joins.pieces.index
    assert again == [joined(">")]
    assert paths(tree) == {
        (joined(">"), joined("A"), joined("</answer>")): [1],
        (joined(">("), joined("B"), joined(")"), joined("</answer>")): [2],
        (joined(">"), joined("A"), joined("!</answer>")): [3],
    }
