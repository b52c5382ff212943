"""Answers in a sentence without a box, as opposed to numbers that only occur in it."""

from __future__ import annotations

import pytest

from personahub.core.answers import check, extract

SAME = r"""
7\frac{1}{2} ~ She needs 7½ cups of flour.
\frac{1}{2} ~ He eats ½ of the cake.
12 ~ There are twelve such triangles.
21 ~ So there are exactly twenty-one of them.
12 ~ We need twelve eggs.
1 ~ There is one such number.
\$4.20 ~ They pay 420 cents in all.
4.20 ~ They pay $4.20 in all.
420 ~ They pay 420 cents in all.
1.5 \text{ hours} ~ It takes 90 minutes.
90 ~ It takes 90 minutes.
30^\circ\text{C} ~ So in the end the temperature must be 30 degrees Celsius.
20 \text{ lb} ~ Hence in the end the dog weighs 20 pounds.
5 \text{ miles per hour} ~ So in the end he walks at 5 miles an hour.
2 \text{ km} ~ They walk 2000 meters in total.
60 \text{ mph} ~ So the train goes at 60 miles per hour.
12 ~ The area is 12 square feet.
5 ~ The train needs 5 seconds in total.
0.28 ~ That leaves 28 percent of them.
14 ~ She has 14 in all.
(0,0),(4,-2) ~ The curves meet at $(4,-2)$ and at $(0,0)$.
(0,0),(4,-2) ~ We set both equal and solve.\n\nSo the two curves meet at the points $(4,-2)$ and $(0,0)$.
1, 2, 3 ~ The roots are $1$, $2$ and $3$.
\pi ~ Since $\cos \pi = -1,$ $\arccos (-1) = \pi.$
(15,-29) ~ At $t = 2,$ $(x,y) = (2^3 + 7, -3 \cdot 2^2 - 6 \cdot 2 - 5) = (15,-29).$
8 ~ Note that $1296 = 6^4 = 2^43^4$, so $x=y=4$ and $x+y={8}$.
12 ~ A pen costs $1.50.\nSo, 8 pens cost $1.50 x 8 = $<<8*1.5=12>>12.
1 ~ We multiply.\n\nFinally, $ij=5\cdot 5=25\equiv {1}\mod 6.$
2:5 ~ The ratio is 2 to 5.
2:5 ~ The ratio of boys to girls is 2 to 5.
-\infty ~ The limit is −∞.
\infty ~ The limit is ∞.
-\infty ~ The limit is $-\infty$.
\text{No} ~ No, the map is not injective, because f(1) = f(-1).
\text{Yes} ~ Yes, because 4 divides 12 and 12 divides 24, and so on.
\text{False} ~ False. For instance 2 is prime and even, so the claim fails at 2.
\text{diverges} ~ **The series diverges.**
\text{converges} ~ The sequence converges.
\text{converges absolutely} ~ The series converges absolutely.
\text{diverges} ~ The series diverges
\text{Tuesday} ~ 1000 = 142 \cdot 7 + 6, so the day is **Tuesday**.
\text{Tuesday} ~ We have 1000 = 142 \cdot 7 + 6.\n\nSo the day is **Tuesday**.
y^2=8x ~ 抛物线方程为 $x=\frac{y^2}{8}$
f(x) = x^2+2 ~ 정답은 $f(t)=t^2+2$입니다.
5 ~ 所以面积为 $5$。
5 ~ 答えは $5$ です
3 ~ Площадь равна $3$.
65 ~ Final answer: 65 (because $13 \cdot 5 = 65$)
60 ~ Final answer: 60 (we exclude 5 of the 65 cases)
\frac{1}{2} ~ The answer is \frac{1}{2} (since 3 of the 6 faces are even).
16:20 ~ 16{:}20
x \equiv 3 \pmod{7} ~ The answer is x ≡ 3 (mod 7).
204_5 ~ The answer is 204 (base 5).
200 ~ There are two hundred such numbers.
11 ~ So there are eleven of them.
x = 1 \text{ or } x = 2 ~ The roots are $x=1$ and $x=2$.
1, 2 ~ The roots are $1$ and $2$.
\text{Yes} ~ Yes, it is.
\text{Yes} ~ **Yes**
\text{No} ~ **No.** The function has a jump at x = 2.
10 ~ It takes 10 hours.
"""
DIFFERENT = r"""
7 ~ She needs 7½ cups of flour.
2 ~ She needs ½ cup of flour.
8\frac{1}{2} ~ She needs 7½ cups of flour.
12 ~ There are at least twelve such triangles.
12 ~ There are not twelve such triangles.
12 ~ There are twelve of the twenty left.
12 ~ There are twelve times as many.
20 ~ There are twelve of the twenty left.
3 ~ There is one such number.
12 ~ There are two dozen eggs.
2 ~ There are two dozen eggs.
\$420 ~ They pay 420 cents in all.
\$42 ~ They pay 420 cents in all.
90 \text{ hours} ~ It takes 90 minutes.
1.5 \text{ minutes} ~ It takes 90 minutes.
2 \text{ m} ~ They walk 2000 meters in total.
60 \text{ km/h} ~ So the train goes at 60 miles per hour.
12 \text{ square meters} ~ The area is 12 square feet.
28 \text{ cm} ~ That leaves 28 percent of them.
(0,0) ~ The curves meet at $(4,-2)$ and at $(0,0)$.
(0,0),(4,2) ~ The curves meet at $(4,-2)$ and at $(0,0)$.
x^2, (0,0) ~ The curve $x^2$ meets the line at $(0,0)$.
5:2 ~ The ratio is 2 to 5.
5 ~ The ratio is 2 to 5.
\infty ~ The limit is −∞.
-\infty ~ The limit is ∞.
\text{Yes} ~ No, the map is not injective, because f(1) = f(-1).
\text{No} ~ Yes, because 4 divides 12 and 12 divides 24, and so on.
\text{Yes} ~ No. At first glance it fails at 3. Yes, wait, it fails at 5.
\text{Yes} ~ Yes, at first sight. But look at 3: it has no inverse.\nNo, it is not a field, since 3 fails.
\text{diverges} ~ The series converges.
\text{diverges} ~ It is false that the series diverges.
\text{diverges} ~ The series never diverges.
\text{converges} ~ The series converges conditionally.
\text{converges} ~ The series diverges.
\text{converges} ~ No such series converges.
\text{exists} ~ The limit does not exist.
\text{Tuesday} ~ 1000 = 142 \cdot 7 + 6, so the day is **Wednesday**.
\text{Tuesday} ~ 1000 = 142 \cdot 7 + 6, so the day is not **Tuesday**.
5 ~ 答案不是 $5$
5 ~ 如果边长为 $5$，则无法构成三角形
\text{Alice} ~ So of the two of them **Bob** beats **Alice**.
5 ~ 所以面积不是 $5$。
5 ~ 半径为 $3$，面积为 $5x$。
5 ~ 因为 $5$ 不行，所以是 $6$。
65 ~ Final answer: 60 (we exclude 5 of the 65 cases)
5 ~ Final answer: 60 (we exclude 5 of the 65 cases)
6 ~ The answer is \frac{1}{2} (since 3 of the 6 faces are even).
2 ~ The train needs 5 seconds in total.
x \equiv 3 \pmod{7} ~ The answer is x ≡ 3 (mod 5).
3 ~ The answer is x ≡ 3 (mod 7).
5 ~ We have 5 in one box and 6 in the other, which makes eleven.
11 ~ There are eleven or twelve of them.
2 ~ There are two-thirds of them left.
100 ~ There are two hundred such numbers.
2 ~ There are two hundred such numbers.
200 ~ There are two thousand such numbers.
\text{Yes} ~ Yes and no: it depends on x.
\text{No} ~ No. Wait: yes, it is.
\text{No} ~ No matter what x is, the value is 5.
\text{True} ~ True or false depends on n.
\text{Tuesday} ~ If today is Monday, tomorrow is **Tuesday**.
\text{converges} ~ If p > 1 the series converges.
\text{diverges} ~ The series converges, while the integral diverges.
(1,2) ~ The points are $(1,2)$ and $(3,4)$.
1 ~ The roots are $1$ and $2$.
2 ~ The roots are $1$ and $2$.
x=1 ~ The roots are $x=1$ and $x=2$.
3:2 ~ 2 to 3
6 ~ 2 to 3
\frac{3}{2} ~ 2 to 3
8 ~ 2 to the 3
[2,5] ~ 2 to 5
600 ~ It takes 10 hours.
10 \text{ min} ~ It takes 10 hours.
"""


def _pairs(table: str) -> list[tuple[str, str]]:
    """One pair a line; `\\n` in a prediction is a line break."""
    rows = (line.split(" ~ ") for line in table.strip().splitlines())
    return [(gold, pred.replace("\\n", "\n")) for gold, pred in rows]


@pytest.mark.parametrize(("gold", "pred"), _pairs(SAME))
def test_a_sentence_gives_the_answer(gold, pred):
    assert check(gold, pred).correct


@pytest.mark.parametrize(("gold", "pred"), _pairs(DIFFERENT))
def test_a_sentence_does_not_give_another_answer(gold, pred):
    assert not check(gold, pred).correct


def test_a_number_brings_its_unit():
    assert extract("So we add them all up, and in the end they have to pay 420 cents in all.").answer == "420 cents"
    assert extract("So we add them all up, and in the end they have to pay 420 in all.").answer == "420"
