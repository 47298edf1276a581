"""Why two machines differ: where they diverge, how much each rung's cause adds, and whether that is allowed.

    explanation = explain(net.lower(), first, second, images)     # programs; print(explanation.sentence())
"""

from ep_hw.diagnosis.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
