"""Operators of logic, sets and geometry: which commute, and which are not interchangeable."""

from __future__ import annotations

import pytest

from personahub.core.answers import check

SAME = r"""
p \land q | q \land p
p \land q | p \wedge q
p \lor q | $p\vee q$
p ∧ q | p \land q
\neg p \lor q | q \lor \neg p
\neg p \lor \neg q | \lnot p \lor \lnot q
¬p ∨ q | \lnot p \lor q
p \implies q | p \Rightarrow q
p \implies q | q \Leftarrow p
p \iff q | q \Leftrightarrow p
(p \land q) \lor r | r \lor q \land p
(p \land q) \implies r | p \land q \implies r
\forall x\, \exists y\, P(x,y) | ∀x ∃y P(x,y)
\exists x\,\neg P(x) | \exists x \neg P(x)
A \cup B | B \cup A
A \cup B \cup C | C \cup A \cup B
A \subseteq B | B \supseteq A
A ⊂ B | B \supset A
x \in A | A \ni x
x \notin A | x \not\in A
x \ne 3 | x \not= 3
AB \parallel CD | \overline{CD} \parallel \overline{AB}
\overline{A} \cap B | B \cap \overline{A}
\bar{z} + z | z + \bar z
\bar{z}^2 - 1 | (\bar{z}-1)(\bar{z}+1)
\bar{x} = 5 | 5
\bar{x} = 5 | x = 5
\overline{AB} | AB
\vec{a} \times \vec{b} | \vec a \times \vec b
x = 1 \lor x = 2 | 1, 2
x = 1 \lor x = 2 | x = 2 \text{ or } x = 1
x < 1 \lor x > 3 | (-\infty, 1) \cup (3, \infty)
x > 1 \land x < 3 | (1, 3)
x = 1 \land y = 2 | (1, 2)
2x = 4 \implies x = 2 | 2
p, q | x = p \text{ or } x = q
x = p, x = q | x = p \text{ or } x = q
x^2 = 4 \iff x = \pm 2 | x = 2, -2
x^2 = 4 \iff x = 2 \lor x = -2 | x = 2, -2
f \circ g | f\circ g
\triangle ABC \cong \triangle DEF | \triangle ABC\cong\triangle DEF
"""
DIFFERENT = r"""
p \land q | p \lor q
p ∧ q | p ∨ q
p AND q | p OR q
p \text{ and } q | p \text{ or } q
p \land q | p \implies q
p \implies q | q \implies p
p \implies q | q
p \implies q | r \implies q
p \to q | q \to p
p → q | q → p
p \iff q | p \implies q
\neg p | p
\neg p \land q | p \land \neg q
¬p ∧ q | p ∧ ¬q
\neg (p \land q) | \neg p \land q
\overline{p} \lor q | p \lor q
p \land q \lor r | p \land (q \lor r)
p \land q \implies r | p \land (q \implies r)
p \oplus q | p \otimes q
p \oplus q | p \lor q
\top | \bot
\forall x P(x) | \exists x P(x)
\forall x \exists y P(x,y) | \exists y \forall x P(x,y)
∀x ∃y P(x,y) | ∃y ∀x P(x,y)
\forall x \in \mathbb{R}, \exists y \in \mathbb{R}, x < y | \exists y \in \mathbb{R}, \forall x \in \mathbb{R}, x < y
\neg \forall x P(x) | \forall x \neg P(x)
\exists! x P(x) | \exists x P(x)
A \cap B | A \cup B
A \subset B | B \subset A
A ⊆ B | A ⊇ B
A \subseteq B | A \nsubseteq B
A \subset B | A \not\subset B
A \subseteq B | A \subsetneq B
A \setminus B | B \setminus A
A \triangle B | A \cap B
A \triangle B | AB
\overline{A} \cap B | A \cap B
\overline{A \cup B} | \overline{A} \cup B
x \in A | A \in x
x \in A | x \notin A
3 \mid n | n \mid 3
3 \mid n | 3 \nmid n
a \nmid b | b \nmid a
AB \parallel CD | AB \perp CD
a ∥ b | a ⊥ b
AB \parallel CD | AB \nparallel CD
f \circ g | g \circ f
a \prec b | b \prec a
a \ll b | a \gg b
\bar{z} | z
\bar{z} = 3 - 2i | z = 3 - 2i
z + \bar{z} | 2z
\vec a \cdot \vec b | \vec a \times \vec b
\vec a \times \vec b | \vec b \times \vec a
\nabla \cdot F | \nabla \times F
\sim p | p
p, q | p \land q
p, q | p \lor q
\exists x \forall y (x < y) | \forall y \exists x (x < y)
\heartsuit \spadesuit | \spadesuit \heartsuit
\overline{x} + y | x + \overline{y}
A \subset B \subset C | C \subset B \subset A
\Pr(A \mid B) | \Pr(B \mid A)
dx \wedge dy | dy \wedge dx
\Gamma \vdash p | p \vdash \Gamma
H \trianglelefteq G | G \trianglelefteq H
x \uparrow | x \downarrow
x \mapsto x^2 | x \mapsto x^3
x > 1 \land x < 5 | x > 1 \lor x < 5
x > 1 \text{ and } x < 5 | x > 1 \text{ or } x < 5
x = 1 \land y = 2 | x = 1 \lor y = 2
"""


def _pairs(table: str) -> list[tuple[str, str]]:
    return [(gold, pred) for gold, pred in (line.split(" | ") for line in table.strip().splitlines())]


@pytest.mark.parametrize(("gold", "pred"), _pairs(SAME))
def test_the_same_formula_otherwise_written(gold, pred):
    assert check(gold, pred).correct
    assert check(pred, rf"So it is \boxed{{{gold}}}.").correct


@pytest.mark.parametrize(("gold", "pred"), _pairs(DIFFERENT))
def test_another_operator_or_another_order_is_another_formula(gold, pred):
    assert not check(gold, pred).correct
    assert not check(pred, rf"So it is \boxed{{{gold}}}.").correct
