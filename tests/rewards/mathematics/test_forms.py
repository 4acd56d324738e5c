r"""Forms of answers, kind by kind: what earns the reward for a truth and what does not."""

from __future__ import annotations

import pytest

from rewards.functions.math_answer import math_many, math_reward

# truth: (answers that are right, answers that are wrong)
FORMS: dict[str, tuple[list[str], list[str]]] = {
    "5": (
        ["The answer is 5.", r"\boxed{x \approx 5}", r"\boxed{05}", r"\boxed{\text{five}}", r"\boxed{x = 5}", r"\boxed{5 \text{ apples}}", r"\boxed{5.0}", r"\boxed{\mathbf{5}}", r"\boxed{\textbf{5}}", r"\boxed{5.}", r"\boxed{+5}", r"\boxed{(5)}", r"\boxed{\frac{10}{2}}", r"\boxed{\sqrt{25}}", r"\boxed{500\%}", r"\boxed{５}", "５", "The answer is ５。", "It is 5.", "So we get 5.", "5 apples are left.", "There are 5 of them.", "He needs 5 more apples.", "Therefore, x = 5.", "Thus $x=5$.", "The value of $x$ is $5$.", r"Hence the final answer is $\boxed{5}$.", "5 is the answer.", "5 is correct.", "最终答案是5。", "答案为 5", "所以 x=5。", "一共有5个苹果。", "五", "x=5 (since 2x = 10)", "2 + 3 = 5", "2+3=5", "So 2 + 3 = 5.", "The total is 2 + 3 = 5.", "Answer: 5 apples", "**5**", "*5*", "`5`", "_5_", r'"5"', "(5)", "[5]", "<answer>5</answer>", "$$5$$", r"\[5\]", r"\(5\)", '5\n\nI hope this helps!', 'Answer:\n5', "### 5", "A: 5", "5 m", "5 metres", "5 units", "5 square units", "5 people", "𝟓", r"\boxed{x=y=5}", r"\boxed{f(3) = 5}", r"\boxed{\text{Area} = 5}", r"\boxed{AB = 5}", r"\boxed{x + y = 5}", r"\boxed{\angle A = 5^\circ}", r"\boxed{\ 5 \ }", r"\boxed{\displaystyle 5}", r"\boxed{\large 5}", r"\boxed{\left(5\right)}", r"\boxed{\bf 5}", r"\boxed{{5}}", r"\boxed{5\,\text{units}}", r"\boxed{5~\text{cm}}", r"\boxed{\$5}", r"\boxed{5\ \text{dollars}}", r"\boxed{5\text{ ways}}", r"\boxed{\text{5 apples}}", r"\boxed{\text{Five}}", "5 (units)", "5 cm.", "Five.", r'"Five"', "The value is 5.", "The length is 5 cm.", "The number is five.", "5 because 2+3 = 5", "The answer is 5 because 2+3=5.", "2+3=5, so the answer is 5.", "Adding 2 and 3 gives 5.", "Therefore, the total is 5 apples.", "x = 5.", "$x = 5$", "So, x equals 5.", "We find that $x = 5$.", r"Thus, \(x = 5\).", "答案：5。", "答案: 5", "故选5", "共 5 个", "x等于5", "等于5", "结果为5。", r'{"answer": 5}', "<b>5</b>", "~5~", "5。", "５．", "「5」"],
        ["The answer isn't 5.", "I don't think it's 5", "5 is wrong", "5 is not correct", "at most 5", "less than 5", "no more than 5", "over 5", "5 or more", "maybe 5", "Is it 5?", "5?", "6, not 5", "either 5 or 6", "between 5 and 6", "neither 5 nor 6", "5-6", "5 to 7", "5/6", "5 thousand", "5 dozen", "5k", "$5k", "5%", "1/5", "5:1", "5^2", "-5", "5i", "5x", "5 + x", "x5", "5e3", "5.5", "5,5", "5!", "{5}!", r"\boxed{5!}", r"\boxed{5\%}", r"\boxed{5x}", r"\boxed{x \approx 5.2}", r"\boxed{\text{not } 5}", r"\boxed{\text{more than } 5}", r"\boxed{5, 6}", r"\boxed{\{5, 6\}}", r"\boxed{[5, 6]}", r"\boxed{5 \text{ and } 6}", r"\boxed{x \geq 5}", r"\boxed{x \neq 5}", r"\boxed{\sqrt{5}}", r"\boxed{5^2}", r"\boxed{-5}", r"\boxed{\pm 5}", r"\boxed{5:00}", r"\boxed{x^2=5}", r"\boxed{2x=5}", r"\boxed{6=5}", r"\boxed{5 \cdot 10^3}", r"\boxed{5_{10}}", r"\boxed{\overline{5}}", r"\boxed{5'}", r"\boxed{5^\circ 30'}", r"\boxed{\text{five or six}}", r"\boxed{05.1}", "٥", "Ⅴ", "⑤", "5̸", "5 < x", "about 5 or 6", "5 and 6", "5 & 6", "5; 6", "5 vs 6", "4 → 5", "four or five", "not five", "fifteen", "fifty", "five hundred", "twenty-five", "5th", "fifth", "5 times x", "x = 5 or x = -5", "x = ±5", "5 ± 1", "5 + or - 1", "5+-1", "(5, 0)", "[0, 5]", "{1, 5}", "5, or maybe 6", "It could be 5.", "It might be 5.", "I guess 5?", "5 is incorrect", "The answer cannot be 5.", "The answer is anything but 5.", "The answer is greater than 5.", "The answer is 5 or 6.", "The answer is 5, 6.", "The answer is not 5 but 6.", "Not 5.", "~5 km to 6 km", "5 million people", "$5M", "5 percent", "5 per cent", "5‰", "5 out of 6", "5 of 6", "0 < x < 5", "x ∈ (0,5)", "5⁻¹", "√5", "5²", "5₆", "−5", "5.01", "4.99", "5..", "5.5.5", "5,000", "5 000", "05:00", "5:30", "5/2/2020", "five-sixths", r"\boxed{5\text{ or so}}", r"\boxed{\text{approximately }5\text{ to }6}", r"\boxed{5+}", r"\boxed{5-}", r"\boxed{5*}", r"\boxed{5/}", r"\boxed{/5}", r"\boxed{5\cdot}", r"\boxed{5\sqrt{}}", r"\boxed{\frac{5}{}}", r"\boxed{5^{}}", r"\boxed{)5(}", r"\boxed{5)}", r"\boxed{((5)}", r"\boxed{\{5}", r"\boxed{5 \neq 4}", r"\boxed{\text{none}}", r"\boxed{5 \text{ is wrong}}", r"\boxed{x = 5, y = 5}", r"\boxed{5\pi}", r"\boxed{5e}", r"\boxed{5i}", r"\boxed{|5|+1}", r"\boxed{5 \bmod 7}", r"\boxed{5 \pmod{7}}", r"\boxed{\binom{5}{1}}", r"\boxed{\lfloor 5.5 \rfloor}", r"\boxed{\vec{5}}", r"\boxed{5 \angle 30^\circ}", r"\boxed{\log 5}", r"\boxed{f(5)}", r"\boxed{5x = 5}", r"\boxed{5 \mid x}", r"\boxed{5\times}", r"\boxed{5 \times 1}", r"\boxed{\int 5}"],
    ),
    "3/4": (
        [r"\boxed{3/4}", "three quarters", "three-fourths", "¾", "75%", "3 / 4", "3÷4", r"\boxed{\frac{6}{8}}", r"\boxed{.75}", "The probability is 3/4.", r"The probability is $\frac{3}{4}$, or 75%.", r"{3 \over 4}", "3/4 (75%)", "3/4 (i.e., 0.75)"],
        ["The probability is not 3/4.", r"\boxed{\frac{4}{3}}", r"\boxed{3:5}", r"\boxed{-\frac{3}{4}}", r"\boxed{\frac{3}{4}x}", r"\boxed{0.74}", r"\boxed{\frac{1}{2}+\frac{1}{4}}"],
    ),
    "21": (
        [r"\boxed{18 + 3 = 21}", r"\boxed{x = 18+3 = 21}", r"\boxed{\frac{42}{2}}"],
        [r"\boxed{18 + 1 * 3}", r"\boxed{18+3}", r"\boxed{7 \times 3}", r"\boxed{7 \cdot 3}", r"\boxed{42/2 + 0}", r"\boxed{20 - (-1)}", "18 + 1 * 3", "The answer is 18 + 3.", r"\boxed{x = 18 + 3}", r"\boxed{(21)(1)}", r"\boxed{21 + 0}", r"\boxed{21 + x - x}", r"\boxed{3 \cdot 7 \text{ apples}}", r"\boxed{\frac{63}{3} \cdot 1}", r"\boxed{\binom{7}{2}}"],
    ),
    "24": (
        [],
        [r"\boxed{4!}"],
    ),
    "1/2": (
        [],
        [r"\boxed{\sin 30^\circ}"],
    ),
    "1024": (
        [r"\boxed{2^{10}}"],
        [],
    ),
    r"2\sqrt{3}": (
        [r"\boxed{\sqrt{12}}", r"\boxed{2\sqrt{3}}", r"\boxed{2√3}", "2 sqrt 3"],
        [r"\boxed{1\cdot2\sqrt{3}+0}", r"\sqrt{6}"],
    ),
    r"\frac{1+\sqrt{5}}{2}": (
        [r"\boxed{\frac{1}{2}+\frac{\sqrt{5}}{2}}"],
        [],
    ),
    r"1+\sqrt{2}": (
        [r"\sqrt{2}+1"],
        [],
    ),
    "2": (
        [],
        [r"\boxed{1+1}", "2%"],
    ),
    "(1,2)": (
        ["(1, 2)", r"\boxed{(1.0,2.0)}", r"\boxed{(x,y)=(1,2)}", r"\boxed{x=1,y=2}", r"\boxed{\left(1, 2\right)}", r"\boxed{(\frac{2}{2}, \sqrt{4})}", "The solution is (1, 2).", r"\boxed{1<x<2}"],
        [r"\boxed{x=2,y=1}", r"\boxed{\{1,2\}}", r"\boxed{[1,2]}", r"\boxed{(1,2]}", r"\boxed{12}", r"\boxed{(1,-2)}", "(1,2) or (2,1)", r"\boxed{(1,2),(2,1)}"],
    ),
    r"\left(\frac{1}{2}, 3\right)": (
        ["(1/2, 3)", "(0.5, 3)"],
        [],
    ),
    "(1,-3)": (
        ["(1, −3)"],
        [],
    ),
    "[1,2]": (
        [r"\boxed{1 \le x \le 2}", r"\boxed{x \in [1,2]}", r"\boxed{\left[1,2\right]}"],
        [r"\boxed{1<x<2}", r"\boxed{\{1,2\}}", r"\boxed{[1,3]}"],
    ),
    "[1,2)": (
        [r"\boxed{1 \leq x < 2}"],
        [],
    ),
    r"(-\infty, 3]": (
        [r"\boxed{\{x \mid x \le 3\}}", "x ≤ 3"],
        [r"\boxed{x \ge 3}", r"\boxed{3}"],
    ),
    r"(-\infty,1)\cup(3,\infty)": (
        [r"\boxed{x<1 \text{ or } x>3}", r"\boxed{(3,\infty)\cup(-\infty,1)}"],
        [r"\boxed{(1,3)}", r"\boxed{(-\infty,1]\cup[3,\infty)}"],
    ),
    r"\mathbb{R}\setminus\{2\}": (
        [r"\boxed{x \neq 2}"],
        [],
    ),
    r"x \neq 2": (
        [r"\boxed{(-\infty,2)\cup(2,\infty)}"],
        [],
    ),
    r"\{1,2\}": (
        [r"\boxed{\{2,1\}}", r"\boxed{1 \text{ and } 2}", r"\boxed{x = 1, x = 2}", r"\boxed{x = 1 \text{ or } x = 2}", r"\boxed{x=1,2}", "{1, 2}"],
        [r"\boxed{\{1,2,2,3\}}", r"\boxed{1}", r"\boxed{[1,2]}"],
    ),
    "1, 2": (
        ["1 and 2", r"\boxed{1, 2}", r"\boxed{\{1,2\}}"],
        [r"\boxed{1, 2, 3}", r"\boxed{1, 3}"],
    ),
    "2 or 3": (
        [r"\boxed{2, 3}"],
        ["2", r"\boxed{3}"],
    ),
    "19, 46 and 82": (
        [r"\boxed{19, 46, 82}"],
        ["19"],
    ),
    r"12\pi \text{ cm}^2": (
        [r"\boxed{12\pi}"],
        ["12"],
    ),
    "12π cm²": (
        ["12π", r"\boxed{12\pi \text{ cm}^2}"],
        [r"\boxed{12}", "12 cm²"],
    ),
    "2*pi": (
        [r"\boxed{2\pi}"],
        ["2"],
    ),
    r"\pm 3": (
        ["3, -3", r"\boxed{3 \text{ or } -3}", r"\boxed{x=\pm 3}"],
        [r"\boxed{-3}"],
    ),
    r"1 \pm \sqrt{2}": (
        [r"\boxed{1+\sqrt{2}, 1-\sqrt{2}}"],
        [r"\boxed{1+\sqrt{2}}"],
    ),
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": (
        [r"\boxed{\begin{bmatrix}1&2\\3&4\end{bmatrix}}"],
        [r"\boxed{\begin{pmatrix}1&2\\3&5\end{pmatrix}}"],
    ),
    r"\begin{pmatrix}1\\2\end{pmatrix}": (
        [r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{bmatrix}1\\2\end{bmatrix}"],
        [r"\boxed{\begin{pmatrix}1&2\end{pmatrix}}"],
    ),
    "y=2x+1": (
        [r"\boxed{y = 1 + 2x}", r"\boxed{2x+1}", "y = 2x + 1"],
        [r"\boxed{y=2x}", r"\boxed{x=2y+1}", r"\boxed{y>2x+1}"],
    ),
    "x=3": (
        [r"\boxed{3}", r"\boxed{3=x}"],
        [r"\boxed{y=3}", r"\boxed{x=-3}"],
    ),
    "I=5": (
        [],
        [r"\boxed{I=7}"],
    ),
    "x^2+y^2=25": (
        [r"\boxed{x^2+y^2=25}", r"\boxed{x^2+y^2-25=0}"],
        [r"\boxed{25}", r"\boxed{x^2+y^2=5}"],
    ),
    "x<3": (
        [r"\boxed{3>x}"],
        [r"\boxed{x<4}", r"\boxed{y<3}", r"\boxed{x=3}", r"\boxed{3}"],
    ),
    "x+12": (
        ["12+x", r"\boxed{x + 12}"],
        ["12", "y+12", "x+12=0"],
    ),
    r"\frac{R}{r}": (
        [r"\boxed{R/r}"],
        [r"\boxed{\frac{r}{R}}", r"\boxed{R}"],
    ),
    "x^2+2x+1": (
        ["(x+1)^2"],
        [],
    ),
    r"\frac{x+1}{x-1}": (
        ["(x+1)/(x-1)"],
        [],
    ),
    "a^2+b^2": (
        ["b² + a²"],
        [],
    ),
    "x^{10}": (
        ["x^10"],
        [],
    ),
    r"\sin x": (
        [r"\boxed{\sin(x)}"],
        [],
    ),
    "2^{n}": (
        ["2^n"],
        [],
    ),
    "n(n+1)/2": (
        [r"\boxed{\frac{n(n+1)}{2}}"],
        [],
    ),
    "e^{x}": (
        [r"\boxed{e^x}"],
        [],
    ),
    r"\log_2 3": (
        [r"\boxed{\frac{\ln 3}{\ln 2}}"],
        [],
    ),
    "3+4i": (
        ["4i+3"],
        [],
    ),
    "1234": (
        ["1 234", "$1,234$", "1234.00"],
        ["1.234", "12,34", "123"],
    ),
    "1000000": (
        ["1,000,000", "1 million", "10^6"],
        [],
    ),
    "5,000,000": (
        ["5 million"],
        [],
    ),
    "1234567": (
        ["1 234 567"],
        ["1,234,56,7"],
    ),
    "1.5": (
        [],
        ["1,500"],
    ),
    "0.5": (
        ["1/2", "0.50", "50%", "a half", "half"],
        ["-0.5", "5"],
    ),
    "50%": (
        ["0.5", "1/2", "50 percent", "fifty percent"],
        ["0.05", "0.5%"],
    ),
    r"12.5\%": (
        ["12.5%"],
        [],
    ),
    "1": (
        ["100%"],
        ["100"],
    ),
    "50": (
        [],
        ["50%"],
    ),
    r"\frac{1}{3}": (
        ["0.333333", r"\frac{2}{6}"],
        ["0.3333"],
    ),
    r"\frac{2}{3}": (
        [],
        ["0.67"],
    ),
    r"\pi": (
        [r"\boxed{\pi}", "3.14159265358979"],
        ["3.14", "22/7"],
    ),
    r"\sqrt{2}": (
        ["√2", "1.41421356"],
        ["1.41"],
    ),
    "2^{100}": (
        ["1267650600228229401496703205376"],
        [],
    ),
    "10^{20}": (
        ["100000000000000000000", "1e20"],
        ["10^{21}"],
    ),
    "0.0000001": (
        ["10^{-7}", "1e-7"],
        ["0.0000002"],
    ),
    "0": (
        ["zero", "-0", r"\boxed{0}", "0%", "0 apples"],
        ["1e-20", "0.001", "none of these", r"\emptyset", "-0.0001"],
    ),
    "-5": (
        ["−5", "–5", "minus 5", r"\boxed{-5}", "(-5)", "-5.0"],
        ["5", "--5"],
    ),
    r"\frac{5}{2}": (
        ["2½", r"2 \frac{1}{2}", "2.5", "two and a half"],
        ["21/2", r"\boxed{2 + 1/2}"],
    ),
    r"-\frac{5}{2}": (
        ["-2 1/2"],
        [],
    ),
    "2 1/2": (
        [],
        ["2 1/3"],
    ),
    r"3 \times 10^8": (
        ["3 × 10⁸", "3e8", "3*10^8", "3 x 10^8", "3·10^8", r"3 \cdot 10^8", "300000000"],
        ["3 × 10^-8", "30^8"],
    ),
    "5 km": (
        ["5000 m", "5 kilometers", "5 kilometres", r"\boxed{5 \text{ km}}", r"\boxed{5\,\mathrm{km}}"],
        ["5 cm", "5 miles", "5 km^2", "5 km/h", "6 km"],
    ),
    "12 cm^2": (
        ["12 cm2", "12 square centimeters", "12 sq cm"],
        ["12 m^2", "12 cm^3"],
    ),
    "10 kg": (
        ["10 kilograms"],
        ["10 g"],
    ),
    "2 hours": (
        ["120 minutes", "2 hrs"],
        ["2 minutes"],
    ),
    "60 km/h": (
        ["60 km/hr", "60 kph", "60 kilometers per hour"],
        ["60 mph"],
    ),
    "12 apples": (
        ["12"],
        ["12 oranges"],
    ),
    r"90^\circ": (
        ["90°", r"\boxed{90}", "90 deg", r"\boxed{\frac{\pi}{2}}"],
        [r"180^\circ", r"\boxed{\frac{\pi}{4}}"],
    ),
    r"\frac{\pi}{2}": (
        [r"90^\circ", r"\boxed{\pi/2}", "0.5π"],
        [],
    ),
    "90": (
        [r"90^\circ"],
        [],
    ),
    "$18.90": (
        ["$18.90", r"\$18.90", "18.90 dollars", r"\boxed{\$18.90}", r"\boxed{18.9}", "1890 cents"],
        ["€18.90", "$18.9 million", "$19"],
    ),
    "4:30 p.m.": (
        ["4:30 PM", "4:30pm", r"\boxed{4:30 \text{ p.m.}}", "The answer is 4:30 p.m."],
        ["4:30 a.m.", "4:31 p.m.", "4.30", "430", "4", "4:30"],
    ),
    "2:30": (
        ["2:30", "02:30"],
        ["1:15", "2.5", "5:60"],
    ),
    "2:3": (
        ["4:6", r"\boxed{2:3}", "2 : 3", "2 to 3"],
        ["3:2", "23"],
    ),
    "July 4, 1776": (
        ["4 July 1776", "July 4th, 1776", "The answer is July 4, 1776."],
        ["July 4", "July 5, 1776", "1776"],
    ),
    "1011_2": (
        ["1011_2", r"\boxed{1011_2}", r"\boxed{1011_{2}}"],
        [r"\boxed{1011_3}"],
    ),
    "A": (
        [r"\boxed{\text{A}}", "**A**", "(A)", "A. Paris", "The correct answer is (A)."],
        ["B", "A or B", "AB", r"\boxed{a+1}", "It's not A.", "A nice day", "A cat", "A is wrong"],
    ),
    "Wednesday": (
        ["It is Wednesday.", "The day is Wednesday.", r"\boxed{Wednesday}", "**Wednesday**", "WEDNESDAY"],
        ["Wednesday or Thursday", "Wed", "It isn't Wednesday.", r"\boxed{\text{not Wednesday}}"],
    ),
    "yes": (
        ["Yes", r"\boxed{\text{Yes}}", "Yes.", "Yes, it is.", "Yes, they are equal."],
        ["not yes", "yes or no", "No, it is not.", "Yes and no"],
    ),
    "no solution": (
        [r"\boxed{\text{no solution}}", "There is no solution."],
        ["one solution"],
    ),
    r"\text{even}": (
        ["even", "It is even."],
        ["odd", "not even", r"\boxed{\text{even and odd}}"],
    ),
    "x^2": (
        ["x²"],
        [],
    ),
    r"\frac{1}{2}": (
        ["½"],
        [],
    ),
    r"\infty": (
        ["∞"],
        [r"-\infty", "10^{100}", "0"],
    ),
    r"x\le 3": (
        ["x ≤ 3"],
        [],
    ),
    "0.3": (
        [r"\boxed{0.3}"],
        [],
    ),
    "60": (
        ["60°"],
        [],
    ),
    "42": (
        ["Final Answer: 42", "The answer: 42", "answer = 42", "My answer is 42.", "I get 42.", "So she has 42 apples left.", "She has 42 apples.", "The sum of 20 and 22 is 42.", "42.", "=42", "= 42", "~42", r"\boxed{\mathrm{42}}", r"\boxed{ 42 }", r"\boxed 42", r"\fbox{42}", '\\boxed{42}\n\nHope that helps', "Total: 42 apples", '**Final Answer**\n\n42', "**Final Answer:** 42", "Thus, the answer is 42 apples.", "Result: 42", "结果是42", "答案：42个", "20 + 22 = 42", "The answer is 20 + 22 = 42.", "42 (6 × 7)", "It is 42 (six times seven).", "We get 42 (that is, 40 plus 2)."],
        ["6 × 7", "42 or 43", "41", "It is 42 or 43.", "The answer is either 42 or 43.", "20 + 22", "42 (or 43)", "42 (not 43, maybe 44)"],
    ),
    "5/2": (
        ["2-1/2"],
        [],
    ),
    "3/2": (
        [],
        ["2-1/2"],
    ),
    "16:30": (
        ["4:30 p.m."],
        [],
    ),
    "no": (
        ["No, it is not.", "No."],
        ["Yes, it is."],
    ),
    r"2\pi": (
        [r"2\pi (approximately 6.28)", r"2\pi \approx 6.28"],
        ["6.28"],
    ),
    "12": (
        [],
        ["1 2", "1,2", "12 1/2", "12-13", "12:00"],
    ),
    "-3": (
        [r"\boxed{-3}", "negative three", "minus three", "x = -3", "- 3"],
        ["3"],
    ),
    "2/3": (
        ["two thirds", "2/3.", r"\tfrac23", '\\boxed{\\frac{2}{3}}\n', "⅔", "2⁄3"],
        ["0.6667 approx", "1.5", "2:4", "2/3/1"],
    ),
    "3.5": (
        ["3 1/2", "7/2", "three and a half", "3½"],
        [],
    ),
    r"1.5 \times 10^{-3}": (
        ["0.0015", "1.5e-3", "1.5·10⁻³"],
        ["1.5e3"],
    ),
    "25 m/s": (
        ["25 m/s", "25 meters per second", "90 km/h", "25 m s^{-1}", "25"],
        ["25 km/h", "25 m"],
    ),
    "300 K": (
        ["300 K"],
        [],
    ),
    "2.5 L": (
        ["2500 mL", "2.5 liters"],
        ["2.5 mL"],
    ),
    "45 minutes": (
        ["45 min", "0.75 hours"],
        ["45 hours", "45 seconds"],
    ),
    r"20\%": (
        ["20 percent", "0.2", r"\frac{1}{5}"],
        [r"2\%"],
    ),
    "0.2": (
        ["20%"],
        ["0.2%"],
    ),
    "$5": (
        ["5 dollars", "$5.00", "5"],
        ["5 euros", "5 cents"],
    ),
    r"\$1,000": (
        ["$1000", "1000 dollars"],
        [],
    ),
    "€20": (
        ["20 euros"],
        [],
    ),
    "9:05 a.m.": (
        ["9:05 AM", "09:05"],
        ["9:50 a.m.", "9:05 p.m."],
    ),
    "12:00 p.m.": (
        ["12:00"],
        [],
    ),
    "1:2:3": (
        ["2:4:6"],
        [],
    ),
    "3:1": (
        ["3:1", "3 to 1"],
        ["1:3"],
    ),
    "January 1, 2000": (
        ["1 January 2000", "Jan 1, 2000"],
        ["January 1, 2001"],
    ),
    "101_2": (
        ["101_2"],
        ["5_2", "102_2"],
    ),
    "blue": (
        ["Blue.", "It's blue.", "The color is blue."],
        ["not blue", "blue or red", "light blue", "red"],
    ),
    "false": (
        ["False"],
        [],
    ),
    "true": (
        [r"\boxed{\text{True}}"],
        ["not true", "false"],
    ),
    "x": (
        ["x"],
        ["y", "X", "-x", "2x"],
    ),
    "AB": (
        ["AB"],
        [],
    ),
    "C": (
        ["C. 12", "(C) 12", "I choose C."],
        ["C or D", "Not C", r"\boxed{C+D}"],
    ),
    "(2,3)": (
        ["x=2, y=3", "(x, y) = (2, 3)", "2, 3"],
        ["x=3, y=2", "(2;4)"],
    ),
    "(2,3,5)": (
        ["(2, 3, 5)"],
        [],
    ),
    r"[0,\infty)": (
        [r"x \ge 0", r"\boxed{x \geq 0}"],
        [r"(0,\infty)", "x > 0"],
    ),
    "(0,1)": (
        ["0 < x < 1"],
        [],
    ),
    r"\emptyset": (
        [r"\emptyset", "∅"],
        [],
    ),
    r"\{-1,0,1\}": (
        ["-1, 0, 1", r"\{0, 1, -1\}"],
        ["(-1,0,1)"],
    ),
    r"x=2 \text{ or } x=-3": (
        [r"\boxed{-3, 2}", "x = -3, 2"],
        ["2"],
    ),
    "2x+3y=6": (
        ["3y+2x=6", r"\boxed{4x+6y=12}"],
        ["2x+3y=7"],
    ),
    r"y \ge 2x": (
        [r"2x \le y"],
        ["y > 2x"],
    ),
    "x^3-x": (
        ["x(x-1)(x+1)"],
        [],
    ),
    r"\sqrt{x^2+1}": (
        [r"\sqrt{1+x^2}"],
        [],
    ),
    r"\frac{a}{b}": (
        ["a/b"],
        ["b/a"],
    ),
    "2^{x+1}": (
        [r"2 \cdot 2^x"],
        [],
    ),
    "n!": (
        ["n!"],
        [],
    ),
    r"\ln 2": (
        [r"\ln(2)"],
        [],
    ),
    r"\tan\theta": (
        [r"\tan(\theta)"],
        [],
    ),
    "x_1": (
        ["x_1"],
        ["x_2"],
    ),
    r"\frac{\sqrt{3}}{2}": (
        [r"\frac{\sqrt 3}{2}", "√3/2", "0.8660254"],
        ["0.87"],
    ),
    "i": (
        ["i"],
        [],
    ),
    "2i": (
        ["2i"],
        [],
    ),
    "-1+2i": (
        ["2i-1"],
        [],
    ),
    "e^2": (
        ["e^2"],
        [],
    ),
    r"10\pi": (
        ["10π", "31.4159265"],
        ["31.4"],
    ),
    "1,000": (
        ["1000", "1 000", "1.000e3"],
        ["1.000"],
    ),
    "100": (
        ["1e2", "10^2"],
        [],
    ),
    r"-\infty": (
        ["-∞"],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("truth", FORMS)
def test_forms_of_the_right_value_pay_and_others_do_not(truth: str) -> None:
    right, wrong = FORMS[truth]
    texts = [*right, *wrong]
    scores = math_many(texts, [{"value": truth}] * len(texts), [{}] * len(texts))
    assert [text for text, score in zip(right, scores, strict=False) if score != 1.0] == []
    assert [text for text, score in zip(wrong, scores[len(right) :], strict=True) if score != 0.0] == []


def test_an_option_lets_arithmetic_pay() -> None:
    assert math_reward(r"\boxed{18 + 1 * 3}", {"value": "21"}) == 0.0
    assert math_reward(r"\boxed{18 + 1 * 3}", {"value": "21"}, unevaluated=True) == 1.0
    assert math_reward(r"\boxed{18 + 1 * 4}", {"value": "21"}, unevaluated=True) == 0.0


@pytest.mark.parametrize(
    ("truth", "why"),
    [("1/2x", "a/bc"), ("12-15", "a difference or a range"), (r"2\frac{3}{2}", "a mixed number or a product"), (r"\sin x/2", "a function of a/b"), ("2-1/2", "a mixed number")]
    + [(r"\farc{1}{2}", r"\\farc"), (r"\frac{1}{", "cannot be read whole"), ("???", "cannot be read whole"), ("5 when x > 3", "cannot be read whole"), (r"\cancel{5}", "cannot be read")],
)  # fmt: skip
def test_a_truth_that_reads_in_two_ways_or_not_at_all_is_refused_when_data_is_loaded(
    truth: str, why: str
) -> None:
    with pytest.raises(ValueError, match=r"^answer\.value: expected") as error:
        math_reward.check_gold({"value": truth}, {})  # type: ignore[attr-defined]
    assert why.replace("\\\\", "\\") in str(error.value)


@pytest.mark.parametrize(
    "truth",
    [
        "2 or 3",
        "19, 46 and 82",
        r"12π cm²",
        "2*pi",
        "4:30 p.m.",
        "2:3",
        "Wednesday",
        "no solution",
        "July 4, 1776",
        r"x \ne 2",
        r"\pm 3",
        "4t",
        r"$\text{E}$",
        "1 000",
        "Route 66",
    ],
)
def test_a_truth_that_reads_in_one_way_passes_the_check(truth: str) -> None:
    math_reward.check_gold({"value": truth}, {})  # type: ignore[attr-defined]
    assert math_reward(truth, {"value": truth}) == 1.0
