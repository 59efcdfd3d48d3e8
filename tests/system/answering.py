"""A child process for the tests of `system.child`: does what it is told."""

import os
import sys
import time

from offlinerlkit_romi.system.child import Parent


def main() -> None:
    parent = Parent()
    while True:
        match parent.receive():
            case "print":
                sys.stdout.write("to stdout\n")
                os.write(1, b"from below Python\n")
                parent.send("printed")
            case "threads":
                parent.send([os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"]])
            case "work":
                parent.send("begun")
                time.sleep(600)
            case "fail":
                raise ValueError("because of the test")
            case "leave":
                os._exit(7)
            case message:
                parent.send(message)


if __name__ == "__main__":
    main()
