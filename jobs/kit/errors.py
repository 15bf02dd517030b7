"""
The errors that several modules of the kit share; every other one is a KitError too, beside what raises it.

* KitError
  x ContainerError   a file is not a safetensors file we accept (container.py)
  x SchemaError      its tensors are not those of the base generator (generator.py, latent.py)
  x ImagesError      a folder of photographs cannot be used (images.py)
  x ReceiptError     a receipt cannot be read (receipts.py)
  x NoteError        a checkpoint is malformed or not signed by the key (notes.py)
  x TrainingError    training cannot go on, for instance because the loss is not finite (fit.py)
"""


class KitError(Exception):
    """
    Something the reader can act on.

    Args:
        sentence: what happened, and to what.
        code: the same for machines, snake_case and stable between versions.
        fix: what to do next; empty when the sentence says it already.
        exit_code: status of the command line when this error ends it.
    """

    default_code = "kit_error"

    def __init__(self, sentence: str, *, code: str = "", fix: str = "", exit_code: int = 1) -> None:
        super().__init__(f"{sentence} {fix}".strip())
        self.sentence = sentence
        self.code = code or self.default_code
        self.fix = fix
        self.exit_code = exit_code


class ContainerError(KitError):
    default_code = "container_invalid"


class SchemaError(KitError):
    default_code = "schema_mismatch"


class ImagesError(KitError):
    default_code = "images_unusable"


class TrainingError(KitError):
    default_code = "training_failed"


def is_out_of_memory(error: BaseException) -> bool:
    """Test if memory, or that of a GPU, ran out: torch has a sentence for the one, an error for the other."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be loaded here
        return True
    said = ("can't allocate memory", "CUDA error: out of memory")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
