"""What an inferencer needs of the machine it runs on, refused in a line where it is not there."""

import os
import sys

import cv2
import torch
from mmengine.device import get_device


def usable_device(name: str | None) -> str:
    """The device of this name, or the best one there is.

    Raises:
        ValueError: there is no such device.
    """
    name = str(name or get_device())
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without CUDA
        reason = str(error).partition('\n')[0]
        raise ValueError(f'device {name!r} can not be used, take cpu or one that is there: {reason}') from None
    return name


def require_display() -> None:
    """Raises ValueError where OpenCV can open no window (Qt would end the process)."""
    shown = sys.platform != 'linux' or os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if not shown:
        raise ValueError('pictures can not be shown without a display: write them, and look at OUT/vis')
    try:
        cv2.namedWindow('paif_mm')
    except cv2.error:
        raise ValueError('this OpenCV shows no windows: install opencv-python in place of the headless one') from None
