"""PathAccuracy, as a class; the folder itself is what `evaluate.load` takes."""

from nt_failures.evaluation.path_accuracy.path_accuracy import PathAccuracy as PathAccuracy
