"""What needs two GPUs: `make cuda-multi`. The same runs on two processes of the CPU, by gloo, with `make slow`."""
