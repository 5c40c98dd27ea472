"""What a corpus of any size would take, by rates that were measured: time, money, bytes and memory."""
