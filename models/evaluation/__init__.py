"""What a model was measured to do on patients that it never saw: figures from trials, and one report of them.

Image AUC compares each edited slice with the genuine slices at the same places of the same patients, so that empty
slices at the ends of a series do not flatter it. False alarms are counted over every genuine slice. Which families a
model was trained on is what its card says.
"""

from models.evaluation.agreement import Agreement, compare
from models.evaluation.measured import report
from models.evaluation.running import evaluate, trials_of
from models.evaluation.slices import Figures
from models.evaluation.tabulated import tables
from models.evaluation.written import page

__all__ = ["Agreement", "Figures", "compare", "evaluate", "page", "report", "tables", "trials_of"]
