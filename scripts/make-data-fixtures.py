"""Writes the small files in tests/golden/data that readers of data sets are tested with.

    python scripts/make-data-fixtures.py tests/golden/data

Needs pyarrow and torch. Every Parquet file of text holds the same 40 rows: an empty string, repeated words, long rows and other letters.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
rows = ["" if i % 9 == 0 else f"row {i} Zwölf 十二 " + "one two " * (i % 5) for i in range(40)]
text = pa.table({"id": list(range(40)), "text": rows, "length": [float(len(r)) for r in rows]})


def write(name, table, **options):
    pq.write_table(table, out / f"{name}.parquet", **options)


write("plain", text, compression="none", use_dictionary=False)
write("snappy", text, compression="snappy", row_group_size=16)
write("gzip", text, compression="gzip", data_page_size=64, use_dictionary=False)
write("zstd", text, compression="zstd", write_page_index=True)
write("second", text, compression="snappy", data_page_version="2.0", row_group_size=25)
write("second_gzip", text, compression="gzip", data_page_version="2.0", use_dictionary=False)
required = pa.schema([pa.field("text", pa.string(), nullable=False)])
write("required", pa.table({"text": rows}, schema=required), compression="none")
write("large", text.cast(pa.schema([("id", pa.int64()), ("text", pa.large_string()), ("length", pa.float64())])))
write("nulls", pa.table({"text": ["one", None, "three", None]}))
write("all_null", pa.table({"text": pa.array([None, None], pa.string())}))
write("empty", text.slice(0, 0))
write("delta", text, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
write("lz4", text, compression="lz4")
write("lists", pa.table({"text": [["one"], ["two", "three"]]}))
write("sentences", pa.table({"sentence": ["one two " * i for i in range(1, 20)]}), compression="snappy")
chats = [
    [{"role": "user", "content": f"one {i}"}, {"role": "assistant", "content": "two"}] * (i % 3 + 1) for i in range(5)
]
write("chat", pa.table({"id": range(5), "messages": chats}), row_group_size=2)
write("chat_null", pa.table({"messages": [chats[0], None, [], [{"role": "user", "content": None}]]}))

# As SpQR's repository stores tokens: a list of [1, n].
tokens = [torch.tensor([[(7 * row + 11 * i + i * i) % 64 for i in range(32)]]) for row in range(4)]
torch.save(tokens, out / "tokens.pth")
