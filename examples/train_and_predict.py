"""Train on bundled pictures, score pictures that were not trained on, save the answers.

    python examples/train_and_predict.py

Some minutes on a laptop. With your own pictures, put your folder in the place of `bundled("nuclei")`.
"""

import sightline as sl
from sightline.datasets.bundled import bundled


def main(run: str = "runs/example", steps: int = 300, **options: object) -> None:
    """Train into the folder `run`; `options` are those of `sl.train`."""
    data = bundled("nuclei")
    trained = sl.train("unet", data, run=run, steps=steps, say=print, **options)
    print(trained)

    net, card = sl.load(trained.folder)
    print(sl.evaluate((net, card), data, split="test"))
    for answer in sl.predict((net, card), data / "images" / "test"):
        written = answer.save(trained.folder / "answers")
        print(answer.name, answer.pixels, written["overlay"])


if __name__ == "__main__":
    main()
