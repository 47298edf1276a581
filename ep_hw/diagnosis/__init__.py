"""Why two machines differ: where they part, which rung's cause adds how much, and whether it may.

    explanation = explain(net.lower(), first, second, images)     # programs; print(explanation.sentence())
"""

from ep_hw.diagnosis.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
