/*
 * Bytes and text without a C library: memcpy() and memset(), which the compiler may call too, lines put together from
 * words and numbers, and the trace buffer, which a host reads as text at any time.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);

/* Text of bounded length; what does not fit is left out. */
struct text {
	char *start;
	size_t len;
	size_t room;
};

void put(struct text *text, const char *word);
void put_decimal(struct text *text, uint32_t number);

/* Whether the bytes are exactly this word. */
bool is_word(const uint8_t *bytes, size_t len, const char *word);

/* A line of the trace, from its beginning to its end. */
void trace_begin(const char *word);
void trace(const char *word);
void trace_decimal(uint32_t number);
void trace_hex(uint32_t number);
void trace_end(void);

#endif
