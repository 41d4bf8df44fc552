"""The commands: one thin module each, installed as ``sctseg7t.cli``."""


def add_data_option(parser):
    """Add ``-data``, the folders of the anatomy that is simulated from."""
    parser.add_argument(
        "-data",
        "--data",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder made by sct7t_download export, or SOURCE=FOLDER (AMU7T, PAM50, masks)",
    )
