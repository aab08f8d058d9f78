/*
 * Bytes, text and the trace buffer.
 */
#include "text.h"

#include "board.h"

#define TRACE_SIZE 4096u
/* Where less is left than a long line takes, the trace begins anew at the top. */
#define LONGEST_LINE 160u

/* Text with a NUL behind it, as a host takes it; the table names its place. */
static char buffer[TRACE_SIZE] __attribute__((section(".trace")));
static size_t at;

void *memcpy(void *to, const void *from, size_t len)
{
	uint8_t *out = to;
	const uint8_t *in = from;

	/* The core takes words at any address in memory. */
	for (; len >= 4; len -= 4, out += 4, in += 4)
		*(uint32_t *)out = *(const uint32_t *)in;
	while (len--)
		*out++ = *in++;
	return to;
}

void *memset(void *to, int byte, size_t len)
{
	uint8_t *out = to;

	while (len--)
		*out++ = (uint8_t)byte;
	return to;
}

void put(struct text *text, const char *word)
{
	while (*word && text->len < text->room)
		text->start[text->len++] = *word++;
}

void put_decimal(struct text *text, uint32_t number)
{
	char digits[11];
	size_t first = sizeof(digits) - 1;

	digits[first] = 0;
	do {
		digits[--first] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	put(text, digits + first);
}

bool is_word(const uint8_t *bytes, size_t len, const char *word)
{
	while (len && *word && *bytes == (uint8_t)*word) {
		bytes++;
		word++;
		len--;
	}
	return !len && !*word;
}

void trace(const char *word)
{
	while (*word && at < TRACE_SIZE - 1)
		buffer[at++] = *word++;
}

void trace_begin(const char *word)
{
	if (at + LONGEST_LINE > TRACE_SIZE) {
		memset(buffer, 0, sizeof(buffer));
		at = 0;
	}
	trace(word);
}

void trace_decimal(uint32_t number)
{
	char digits[11];
	struct text text = { digits, 0, sizeof(digits) - 1 };

	put_decimal(&text, number);
	digits[text.len] = 0;
	trace(digits);
}

void trace_hex(uint32_t number)
{
	char digits[] = "0x00000000";

	for (size_t i = sizeof(digits) - 2; number; i--, number >>= 4)
		digits[i] = "0123456789abcdef"[number & 0xF];
	trace(digits);
}

void trace_end(void)
{
	trace("\n");
	barrier();
}
