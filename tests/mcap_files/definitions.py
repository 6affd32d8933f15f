"""Definitions of ROS 2 messages as recorders store them: a message, then those in it."""

from __future__ import annotations

from collections.abc import Mapping

_RULE = "=" * 80
_PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "builtin_interfaces/Time": ("int32 sec\nuint32 nanosec\n", ()),
    "std_msgs/Header": (
        "# when and where\nbuiltin_interfaces/Time stamp\nstring frame_id\n",
        ("builtin_interfaces/Time",),
    ),
    "geometry_msgs/Point": ("float64 x\nfloat64 y\nfloat64 z\n", ()),
    "geometry_msgs/Quaternion": ("float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1\n", ()),
    "geometry_msgs/Vector3": ("float64 x\nfloat64 y\nfloat64 z\n", ()),
    "geometry_msgs/Pose": (
        "Point position\nQuaternion orientation\n",
        ("geometry_msgs/Point", "geometry_msgs/Quaternion"),
    ),
    "geometry_msgs/Twist": ("Vector3  linear\nVector3  angular\n", ("geometry_msgs/Vector3",)),
    "std_msgs/MultiArrayDimension": ("string label\nuint32 size\nuint32 stride\n", ()),
    "std_msgs/MultiArrayLayout": (
        "MultiArrayDimension[] dim # of each axis\nuint32 data_offset\n",
        ("std_msgs/MultiArrayDimension",),
    ),
    "trajectory_msgs/JointTrajectoryPoint": (
        "float64[] positions\nfloat64[] velocities\nbuiltin_interfaces/Time time_from_start\n",
        ("builtin_interfaces/Time",),
    ),
}
"""package/Name -> its definition, and the messages in it."""

_HEADER = ("std_msgs/Header",)
_MESSAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sensor_msgs/msg/CompressedImage": ("std_msgs/Header header\nstring format\nuint8[] data\n", _HEADER),
    "sensor_msgs/msg/Image": (
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\n"
        "uint8[] data\n",
        _HEADER,
    ),
    "sensor_msgs/msg/JointState": (
        "std_msgs/Header header\n\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n",
        _HEADER,
    ),
    "geometry_msgs/msg/PoseStamped": ("std_msgs/Header header\nPose pose\n", (*_HEADER, "geometry_msgs/Pose")),
    "geometry_msgs/msg/Twist": _PARTS["geometry_msgs/Twist"],
    "geometry_msgs/msg/TwistStamped": ("std_msgs/Header header\nTwist twist\n", (*_HEADER, "geometry_msgs/Twist")),
    "std_msgs/msg/Float64MultiArray": ("MultiArrayLayout layout\nfloat64[] data\n", ("std_msgs/MultiArrayLayout",)),
    "std_msgs/msg/Float64": ("float64 data\n", ()),
    "std_msgs/msg/String": ("# text\nuint8 LONG=3\nstring data\n", ()),
    "trajectory_msgs/msg/JointTrajectory": (
        "std_msgs/Header header\nstring[] joint_names\nJointTrajectoryPoint[] points\n",
        (*_HEADER, "trajectory_msgs/JointTrajectoryPoint"),
    ),
}


def definition(kind: str) -> str:
    """The schema of a type, with all that is in it."""
    text, inner = _MESSAGES[kind]
    listed: list[str] = []
    waiting = list(inner)
    while waiting:
        name = waiting.pop(0)
        if name not in listed:
            listed.append(name)
            waiting += _PARTS[name][1]
    return text + "".join(f"{_RULE}\nMSG: {name}\n{_PARTS[name][0]}" for name in listed)
