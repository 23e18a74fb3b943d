"""Formats that can be imported: titles, folder layouts and rules, as text only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportFormat:
    """Format as the command line explains it.

    Attributes:
        module: Name of the module in this folder that reads the format.
        title: Title in the list of formats.
        layout: Layout of SRC, line by line.
        rules: Rules of the conversion.
    """

    module: str
    title: str
    layout: str
    rules: str


IMPORTERS: dict[str, ImportFormat] = {
    "coco": ImportFormat(
        module="coco",
        title="COCO instances: JSON with polygons or run lengths",
        layout="""\
annotations/instances_train2017.json  with train2017/ or images/train2017/ beside it
train/_annotations.coco.json          beside its images, as Roboflow exports (valid, test)
anything.json                         beside images/
""",
        rules="""\
Class 0 is the background; categories that occur become 1, 2 … in the order of their ids, without gaps.
Where objects overlap, the smaller is on top. The pixels of a crowd (iscrowd, ignore) are ignored, except under an
object; in CVAT's files, and where all objects are crowds, crowds are objects.
An image without annotations is all background; an image that the JSON does not list is left out.
""",
    ),
    "labelme": ImportFormat(
        module="labelme",
        title="LabelMe: one JSON file per image",
        layout="""\
a.json  beside a.jpg, or with the image inside (imageData); folders train/, val/, test/ become splits
labels.txt (optional)  one class per line, in the order of their ids
""",
        rules="""\
Class 0 is the background (_background_); without labels.txt the others are sorted by name. __ignore__ is ignored.
Polygons, rectangles, turned rectangles (rotation, oriented_rectangle, quadrilateral), circles and masks are filled,
lines are 10 pixels wide as in LabelMe's own export, points and cuboids are left out. Where shapes overlap, the later
one is on top. An image without a JSON is left out.
""",
    ),
    "yolo": ImportFormat(
        module="yolo",
        title="YOLO segmentation labels of Ultralytics, Roboflow or CVAT",
        layout="""\
data.yaml  names, and train, val and test as folders or as lists of images (optional)
images/train/a.jpg  labels/train/a.txt    or train/images/a.jpg  train/labels/a.txt  (val, valid, test)
train.txt, val.txt … (optional)  lists of images, if data.yaml names no splits; also those of darknet's obj.data
classes.txt (optional)  one class per line, if data.yaml has no names; also beside the labels
""",
        rules="""\
Class 0 is the background; the classes of the labels become 1, 2 … in their order. Where polygons overlap, the smaller
is on top. Parts that are joined by a line stay one object. Boxes are left out.
An image without a label file is all background. An image of two splits is taken once, in the first of train, val, test.
""",
    ),
    "label-studio": ImportFormat(
        module="label_studio",
        title="Label Studio: JSON or JSON-MIN",
        layout="""\
project.json  with the images anywhere in SRC, as images/a.jpg or 1a2b3c4d-a.jpg; folders train/, val/, test/ become splits
""",
        rules="""\
Class 0 is the background; the labels are sorted by name. Polygons, boxes, ellipses, brushes and bitmasks are filled; other
results have no area and are left out. Where regions overlap, the later one is on top.
Of several annotations of a task, the ground truth or else the last is taken; skipped ones and predictions are left out, but
predictions are taken if a project has no annotations. A task without an annotation is left out; one whose annotation is
empty is all background.
""",
    ),
    "via": ImportFormat(
        module="via",
        title="VGG Image Annotator (VIA) 1 and 2: project, JSON or CSV",
        layout="""\
via_region_data.json or via_project.json  beside the images; folders train/, val/, test/ become splits
via_region_data.csv                       read if there is no JSON
""",
        rules="""\
Class 0 is the background; the class of a region is the value of its attribute: of the only one, of one named class,
label, category, name or type, or of the one that --attribute names. Without attributes all regions are of the class
object. Polygons, rectangles, circles and ellipses are filled, points and lines are left out. Where regions overlap, the later one is on top.
An image without regions is all background; an image that VIA does not list is left out.
""",
    ),
    "supervisely": ImportFormat(
        module="supervisely",
        title="Supervisely: a project of images",
        layout="""\
meta.json  DATASET/img/a.jpg  DATASET/ann/a.jpg.json  (or ann/a.json)
""",
        rules="""\
Class 0 is the background; the classes of meta.json become 1, 2 … in their order, with their colours. Polygons, rectangles,
bitmaps and alpha masks (from half opaque) are filled; points, lines, graphs and cuboids have no area and are left out.
Where objects overlap, the later one is on top. Datasets named train, val and test become splits, or else tags of these
names that all images have. An image without objects is all background; one without an annotation file is left out.
""",
    ),
    "voc": ImportFormat(
        module="voc",
        title="PASCAL VOC, and CVAT's 'Segmentation mask 1.1'",
        layout="""\
VOCdevkit/VOC2012/ or its content:
  JPEGImages/a.jpg  SegmentationClass/a.png
  ImageSets/Segmentation/train.txt, val.txt, trainval.txt, test.txt, default.txt (optional), or CVAT's Train.txt …
  labelmap.txt or class_names.txt (optional)  classes other than the 20 of VOC, the background first
""",
        rules="""\
With labelmap.txt masks are read by colour, else by palette index or grey level, and RGB masks by VOC's colours. 255
and the colour 224,224,192 are ignored. An image without a mask is left out.
""",
    ),
    "cvat": ImportFormat(
        module="cvat",
        title="CVAT: 'CVAT for images 1.1' and 'CVAT for video 1.1'",
        layout="""\
annotations.xml  with images/ beside it; of a video, images/frame_000000.PNG …
""",
        rules="""\
Class 0 is the background; labels that occur become 1, 2 … in the order of the XML, with their colours. Polygons, boxes, ellipses
and masks are filled in their z_order; polylines, points, cuboids and skeletons have no area and are left out, as in
CVAT's own masks. Subsets Train, Validation and Test become splits. An image without shapes is all background.
Of a video, the frames are imported whose files are there; a file's number is that of the frame in the video, also if
only every fifth frame is used. Tracks are drawn where they list a shape. If a file lists key frames only, boxes,
ellipses and polygons move linearly in between; a frame between polygons of different corners is left out.
groups.csv names the task of each frame, if there are several.
""",
    ),
    "oxford-pet": ImportFormat(
        module="oxford_pet",
        title="Oxford-IIIT Pet",
        layout="""\
images/Abyssinian_1.jpg  annotations/trimaps/Abyssinian_1.png  annotations/trainval.txt, test.txt
""",
        rules="""\
Two classes, background and pet; the border of the trimap (3) is ignored. trainval.txt becomes train.
""",
    ),
    "camvid": ImportFormat(
        module="camvid",
        title="CamVid: SegNet's copy, Kaggle's copy or the original",
        layout="""\
train/ trainannot/ val/ valannot/ test/ testannot/            index masks, 11 is void (SegNet)
train/ train_labels/ val/ val_labels/ test/ test_labels/      colour masks *_L.png (Kaggle)
701_StillsRaw_full/ or images/, LabeledApproved_full/ or labels/   colour masks *_L.png (the original)
""",
        rules="""\
The 11 usual classes; the original's 32 are merged into them, and void is ignored. groups.csv names the video of each
frame. The original has no splits: `edge-unet train` then holds out whole videos for validation.
""",
    ),
    "cityscapes": ImportFormat(
        module="cityscapes",
        title="Cityscapes, fine annotations, and CVAT's 'Cityscapes 1.0'",
        layout="""\
leftImg8bit/train/CITY/CITY_000000_000019_leftImg8bit.png
gtFine/train/CITY/CITY_000000_000019_gtFine_labelIds.png  (or _labelTrainIds.png)
imgsFine/leftImg8bit/default/a_leftImg8bit.png  gtFine/default/a_gtFine_labelIds.png  label_colors.txt  (CVAT)
""",
        rules="""\
The 19 classes of the benchmark; all others are ignored. test is left out, because its annotations are not public.
groups.csv names the city and sequence of each frame.
With label_colors.txt, the classes are those of its lines, and a mask's value is the number of the line, from 0.
An image without a mask is left out; CVAT writes none for an image without shapes.
""",
    ),
    "roboflow": ImportFormat(
        module="roboflow",
        title="Roboflow: 'Semantic Segmentation Masks'",
        layout="""\
train/a.jpg  train/a_mask.png  train/_classes.csv  (valid, test; or one folder without splits)
""",
        rules="""\
The classes are those of _classes.csv, in the order of their values; all folders must have the same. The class of value
0 keeps its name, be it background or another. An image without a mask is left out.
""",
    ),
    "object-masks": ImportFormat(
        module="object_masks",
        title="Masks of one object or one class each, white on black",
        layout="""\
ID/images/ID.png   ID/masks/*.png       a folder per image, a mask per object (Data Science Bowl 2018)
images/a.png       masks/a/*.png        a folder of masks per image, or masks/a_1.png, a_2.png …, or a_CLASS.png
images/a.png       masks/CLASS/a.png    a folder of masks per class
""",
        rules="""\
Class 0 is the background. Masks of objects are united to one class called object; --merge nucleus=object renames it.
Folders per class become classes in the order of their names; folders 0, 1 … become class_1, class_2 …
Where masks overlap, the later class is on top, and the pixels are counted. An image without any mask is left out; one
without a mask of some classes has none of these.
""",
    ),
}
AUTO = ImportFormat(
    module="detection",
    title="one of these formats, detected by its content",
    layout="""\
a folder in the layout of one of the formats; `edge-unet data import --help` shows them
""",
    rules="""\
The format is printed with what shows it. If several formats fit, or none, nothing is imported, and the message says
what was found.
""",
)
"""What ``auto`` stands for: the format that ``detection`` finds."""
