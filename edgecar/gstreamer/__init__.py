"""The GStreamer element ``edgecarrestore``; ``python -m edgecar.gstreamer`` says how it is found.

GStreamer's loader of Python plugins (Debian's ``gstreamer1.0-python3-plugin-loader`` and
``python3-gst-1.0``) imports every file in folders named ``python`` on GST_PLUGIN_PATH, with the
system's Python. That must have the minor version of the Python that edgecar is installed for, and
find its packages on PYTHONPATH.

    $ eval "$(python -m edgecar.gstreamer)"
    $ gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! videoconvert ! edgecarrestore ! …

A decoder does not tell what it decoded: weights are for H.264 unless ``coder`` says otherwise.
``gst-inspect-1.0 edgecarrestore`` lists the properties. Before a camera's frames are restored, a
``queue leaky=downstream max-size-buffers=1`` lets those go that were overtaken.
"""
