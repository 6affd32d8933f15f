"""samples.parquet written anew from its columns, row group by row group, and compared byte by byte.

Statistics, encodings, page sizes, key-value metadata, gaps and the name of the writer are then what the columns force.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.expansion import bounded_memory
from pipeline.audit.canonical.sink import ComparingSink
from pipeline.audit.samples import open_samples, reading
from pipeline.format.columns import ROW_GROUP, samples_schema
from pipeline.format.file_names import SAMPLES


def samples_difference(build: ClaimedBuild) -> str:
    """Where samples.parquet departs from its content written anew; "" when it is equal.

    Raises:
        BuildError: it cannot be read.
    """
    schema = samples_schema(build.sizes.views, build.sizes.steps)
    path = build.root / SAMPLES
    with open_samples(build) as file, reading(path), pa.memory_map(str(path)) as mapped:
        listed = sum(shard.samples for shard in build.shards)
        if file.metadata.num_rows != listed:
            return f"it has {file.metadata.num_rows} rows, build.json lists {listed} samples"
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        wanted = [min(ROW_GROUP, listed - at) for at in range(0, listed, ROW_GROUP)]
        if groups != wanted:
            at = next((i for i, pair in enumerate(zip(groups, wanted, strict=False)) if pair[0] != pair[1]), -1)
            return f"its {len(groups)} row groups must hold {ROW_GROUP} rows each, the last the rest: {at} does not"
        sink = ComparingSink(mapped.read_buffer())
        with pq.ParquetWriter(sink, schema) as writer:
            for i in range(len(groups)):
                with bounded_memory():
                    group = file.read_row_group(i)
                writer.write_table(group.combine_chunks())
        return sink.difference()
