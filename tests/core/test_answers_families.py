"""Answers that are families: residue classes, solutions with constants, antiderivatives, functions by cases; dates."""

from __future__ import annotations

import pytest

from personahub.core.answers import check

SAME = r"""
x\equiv 3\pmod{7} ~ x \equiv -4 \pmod 7
x\equiv 3\pmod{7} ~ x ≡ 10 (mod 7)
x\equiv 3\pmod{7} ~ x = 3 (mod 7)
x\equiv 5\pmod{12} ~ x = 12k+5 \text{ for integer } k
x\equiv 5\pmod{12} ~ x = 12n - 7
n = 4k + 1, k \in \mathbb{Z} ~ n \equiv 1 \pmod{4}
x \equiv a \pmod{n} ~ x \equiv a \mod n
x \equiv 1 \pmod 3, x \equiv 2 \pmod 5 ~ x \equiv 2 \pmod 5, x \equiv 1 \pmod 3
y=Ce^{2x} ~ y = c_1 e^{2x}
y=Ce^{2x} ~ y = Ae^{2x}
y=C_1\cos x+C_2\sin x ~ y = A\cos x + B\sin x
y=C_1e^{x}+C_2e^{3x} ~ y = c_2 e^{x} + c_1e^{3x}
f(x)=C_1e^{x}+C_2e^{3x} ~ y = Be^{x} + Ae^{3x}
y=A e^{-t}+B t e^{-t} ~ y=(C_1+C_2t)e^{-t}
\frac{1}{2}\sin^2 x+C ~ -\frac{1}{4}\cos 2x+C
\frac{1}{2}\sin^2 x+C ~ -\frac{1}{2}\cos^2 x+c
\ln|x|+C ~ \ln|3x|+C
\frac{x^2}{2}+x+C ~ \frac{(x+1)^2}{2}+C
F(x) = \frac{1}{2}\sin^2 x+C ~ F(x) = -\frac{1}{2}\cos^2 x+C
\tan^2 x + C ~ \sec^2 x + C
f(x)=\begin{cases} x^2 & x\ge 0\\ -x & x<0\end{cases} ~ f(x)=\begin{cases} x^2, & \text{if } x\ge 0\\ -x, & \text{if } x<0\end{cases}
f(x)=\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ f(x)=\begin{cases} 0 & x\le 2\\ 1 & x>2\end{cases}
f(x)=\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ \begin{cases} 1 & \text{for } 2 < x\\ 0 & \text{otherwise}\end{cases}
\begin{cases} 2x & 0 \le x < 1\\ 0 & \text{otherwise}\end{cases} ~ \begin{cases} 0 & \text{else} \\ 2x & \text{if } 0\le x<1\end{cases}
|x| = \begin{cases} x & x\ge 0\\ -x & x<0\end{cases} ~ |x| = \left\{\begin{array}{ll} x & x\ge 0\\ -x & x<0\end{array}\right.
\begin{cases} x = 1 \\ y = 2\end{cases} ~ x = 1, y = 2
\begin{cases} x &= 1 \\ y &= 2\end{cases} ~ y = 2, x = 1
\text{March 14, 2021} ~ 14 March 2021
\text{March 14, 2021} ~ March 14th, 2021
\text{March 14, 2021} ~ 2021-03-14
\text{June 9} ~ 9 June
\text{June 9} ~ the 9th of June
\text{September 1} ~ Sept. 1
\sqrt{7} ~ 2.6458
\sqrt{7} ~ 2.6457\dots
\frac{2}{3} ~ 0.6667
-\sqrt{7} ~ -2.6458
2.6457 ~ \sqrt{7}
11{:}20\text{ a.m.} ~ \text{11:20 am}
2 ~ \begin{aligned} x &= 1 + 1 \\ &= 2, \end{aligned}
1 ~ 25 \equiv 1 \pmod{6}
\frac{1}{7} ~ 0.1429
\frac{1}{6} ~ 0.1667
\frac{1}{6} ~ 0.1666\ldots
\arcsin x + C ~ -\arccos x + C
\ln x + C ~ \ln(2x) + C
\ln|\sec x + \tan x| + C ~ -\ln|\sec x - \tan x| + C
\begin{cases} x & x > 0 \\ 0 & x = 0 \end{cases} ~ \begin{cases} 0 & \text{if } x = 0 \\ x & \text{if } x > 0 \end{cases}
\begin{cases} x+y=1 \\ x-y=3 \end{cases} ~ \begin{cases} x-y=3 \\ x+y=1 \end{cases}
"""
DIFFERENT = r"""
x\equiv 3\pmod{7} ~ x \equiv -3 \pmod 7
x\equiv 3\pmod{7} ~ x \equiv 3 \pmod{14}
x\equiv 3\pmod{7} ~ x \equiv 10 \pmod{14}
x\equiv 3\pmod{7} ~ x = 3
x\equiv 3\pmod{7} ~ 3
x\equiv 3\pmod{7} ~ x \not\equiv 3 \pmod 7
x\equiv 3\pmod{7} ~ x \equiv 3
x\equiv 3\pmod{7} ~ y \equiv 3 \pmod 7
x\equiv 3\pmod{7} ~ x \equiv \frac{3}{2} \pmod 7
x\equiv 5\pmod{12} ~ x = 12k-5
x\equiv 5\pmod{12} ~ x = 5k+12
x\equiv 5\pmod{12} ~ x = 24k+5
x\equiv 5\pmod{12} ~ x = 12k^2+5
x\equiv 5\pmod{12} ~ x = 12t+5y
x \equiv a \pmod{n} ~ x \equiv b \pmod n
x \equiv 1 \pmod 3, x \equiv 2 \pmod 5 ~ x \equiv 2 \pmod 3, x \equiv 1 \pmod 5
y=Ce^{2x} ~ y=c_1e^{-2x}
y=Ce^{2x} ~ y=e^{2x}
y=Ce^{2x} ~ y=3e^{2x}
y=Ce^{2x} ~ y=Ce^{2x}+A
y=Ce^{2x} ~ y=xe^{2x}
y=Ce^{2x} ~ y=me^{2x}
y=Ce^{kx} ~ y=ke^{Cx}
y=Ax+B ~ y=Dx+C+1
y=C_1\cos x+C_2\sin x ~ y = A\cos x + A\sin x
y=C_1\cos x+C_2\sin x ~ y = A\cos x
y=C_1e^{x}+C_2e^{3x} ~ y = A e^{x}+B e^{-3x}
y=A\cos(kx) ~ y=B\cos(kx)
\frac{1}{2}\sin^2 x+C ~ \frac{1}{2}\cos^2 x+C
\frac{1}{2}\sin^2 x+C ~ -\frac{1}{4}\cos 2x
\frac{1}{2}\sin^2 x ~ -\frac{1}{4}\cos 2x
\frac{1}{2}\sin^2 x+C ~ -\frac{1}{2}\cos 2x+C
\ln|x|+C ~ \ln|x+3|+C
\ln x+C ~ 3\ln x+C
x^2+C ~ x^2+2C
x + c ~ x + c + 1
b + C ~ b + 2 + C
A + C ~ A + C + 90
\arctan x + C ~ \arctan\frac{1}{x} + C
\arctan x + C ~ -\arctan\frac{1}{x} + C
f(x)=\begin{cases} x^2 & x\ge 0\\ -x & x<0\end{cases} ~ f(x)=\begin{cases} x^2 & x\ge 0\\ x & x<0\end{cases}
f(x)=\begin{cases} x^2 & x\ge 0\\ -x & x<0\end{cases} ~ f(x)=\begin{cases} x^2 & x > 0\\ -x & x<0\end{cases}
f(x)=\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ f(x)=\begin{cases} 0 & x> 2\\ 1 & x\le 2\end{cases}
\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ \begin{cases} 0 & x> 2\\ 1 & x\le 2\end{cases}
\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ \begin{cases} 1 & x> 2\end{cases}
\begin{cases} 1 & x> 2\\ 0 & x< 2\end{cases} ~ \begin{cases} 1 & x> 2\\ 0 & \text{otherwise}\end{cases}
\begin{cases} 1 & x> 2\\ 0 & x\le 2\end{cases} ~ \begin{cases} 0 & x> 2\\ 1 & \text{otherwise}\end{cases}
\begin{cases} 2x & 0 \le x < 1\\ 0 & \text{otherwise}\end{cases} ~ 2x
\begin{cases} x & x\ge 0\\ -x & x<0\end{cases} ~ x, -x
\begin{cases} x = 1 \\ y = 2\end{cases} ~ x = 2, y = 1
\text{March 14, 2021} ~ 14 March 2020
\text{March 14, 2021} ~ 4 March 2021
\text{March 14, 2021} ~ 14 May 2021
\text{March 4, 2021} ~ 2021-04-03
\text{June 9} ~ 9 July
\text{June 9} ~ 9
\sqrt{7} ~ 2.6456\dots
11{:}20\text{ a.m.} ~ \text{11:20 pm}
3 ~ \begin{aligned} x &= 3 - 1 \\ &= 2, \end{aligned}
7 ~ 25 \equiv 1 \pmod{6}
6 ~ 25 \equiv 1 \pmod{6}
1 ~ 2x \equiv 1 \pmod{6}
x \equiv 2 \pmod 6 ~ x \equiv 2 \pmod 3
2 ~ x \equiv 2 \pmod 6
y = e^{2x} + C ~ y = Ce^{2x}
y = Ce^{2x} + D ~ y = Ce^{2x}
y = C x ~ y = x + C
y = A x^2 + B ~ y = A x + B
y = C_1 x + C_2 ~ y = m x + b
\frac{x^2}{2} + C ~ \frac{x^2}{2}
\frac{x^2}{2} + C ~ \frac{x^2}{2} + x + C
e^x + C ~ e^{x+C}
\sin x + C ~ \sin(x + C)
\sqrt{x} + C ~ \sqrt{x + C}
\arcsin x + C ~ \arccos x + C
2\arcsin x + C ~ \arccos x + C
\ln(x) + C ~ \ln(-x) + C
\lfloor x \rfloor + C ~ x + C
|x| + C ~ x + C
\frac{|x|}{x} + C ~ 1 + C
\begin{cases} 1 & x \ge 0 \\ -1 & x < 0 \end{cases} ~ \begin{cases} -1 & x \ge 0 \\ 1 & x < 0 \end{cases}
\begin{cases} x & x > 0 \\ 0 & x = 0 \end{cases} ~ \begin{cases} x & x = 0 \\ 0 & x > 0 \end{cases}
\begin{cases} x & x > 0 \\ 0 & x = 0 \end{cases} ~ x, 0
\begin{cases} x+y=1 \\ x-y=3 \end{cases} ~ \begin{cases} x+y=3 \\ x-y=1 \end{cases}
\text{May 5} ~ 5
\text{March 5} ~ 5 May
\text{April 12} ~ \text{December 4}
\text{January 2020} ~ 1 January 2020
"""


def _pairs(table: str) -> list[tuple[str, str]]:
    return [(gold, pred) for gold, pred in (line.split(" ~ ") for line in table.strip().splitlines())]


@pytest.mark.parametrize(("gold", "pred"), _pairs(SAME))
def test_the_same_family(gold, pred):
    assert check(gold, pred).correct
    assert check(gold, rf"So it is \boxed{{{pred}}}.").correct


@pytest.mark.parametrize(("gold", "pred"), _pairs(DIFFERENT))
def test_another_family(gold, pred):
    assert not check(gold, pred).correct
    assert not check(pred, rf"So it is \boxed{{{gold}}}.").correct


@pytest.mark.parametrize(
    ("gold", "pred"),
    [(r"\sqrt{7}", "2.6457"), (r"\frac{2}{3}", "0.6666"), (r"\pi", "3.1415"), (r"-\sqrt{7}", "-2.6457")],
)
def test_a_prediction_is_rounded_and_not_cut_off(gold, pred):
    assert not check(gold, pred).correct
    assert check(gold, rf"{pred}\dots").correct
    assert check(pred, gold).correct  # a reference may have been cut off
