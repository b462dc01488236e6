"""A file of ``tools/export.py`` without paif_mm or torch: ``python run_onnx.py model.onnx rgb.png ir.png out.png``."""

import json
import sys

import cv2
import numpy as np
import onnxruntime

model, visible, infrared, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
pair = np.dstack([cv2.imread(visible), cv2.imread(infrared, cv2.IMREAD_GRAYSCALE)])  # B,G,R,IR in [0, 255]
facts = json.loads(session.get_modelmeta().custom_metadata_map['paif_mm'])
given = session.run(None, {'pairs': pair.transpose(2, 0, 1)[None].astype(np.float32)})
found = dict(zip(facts['outputs'], given, strict=True))
picture = found['fused'][0].transpose(1, 2, 0) if 'fused' in found else pair[..., :3]  # some models fuse features
if 'logits' in found:  # of a segmentor
    palette = np.array(facts['palette'])[:, ::-1]
    picture = (picture + palette[found['logits'][0].argmax(0)]) / 2
picture = np.ascontiguousarray(picture.round().clip(0, 255).astype(np.uint8))
if 'boxes' in found:  # of a detector
    for box in found['boxes'][found['scores'] > 0.3].round().astype(int).tolist():
        cv2.rectangle(picture, box[:2], box[2:], (0, 0, 255), 1)
cv2.imwrite(out, picture)
