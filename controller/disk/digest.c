#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "disk/digest_tree.h"
#include "disk/sha256_lanes.h"

#define LEAVES (DISK_DIGEST_BLOCK / DIGEST_LEAF)
#define STEPS_OF_LEAF (DIGEST_LEAF / DIGEST_STEP)
#define WIDE_MIN 13 /* messages: fewer are faster in fours */
#define OF_LEAF 0
#define OF_NODE 1

static const unsigned char zero_node[DIGEST_SIZE];

struct digest_hasher {
	EVP_MD *sha256;
	EVP_MD_CTX *context;
	bool lanes, wide;
};

struct digest_hasher *digest_hasher_new(struct error **err)
{
	struct digest_hasher *h = calloc(1, sizeof *h);

	if (h) {
		h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
		h->context = EVP_MD_CTX_new();
		h->lanes = sha256_lanes_usable();
		h->wide = sha256_wide_usable();
		if (h->sha256 && h->context)
			return h;
	}
	digest_hasher_free(h);
	error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library does not start");
	return NULL;
}

void digest_hasher_free(struct digest_hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->context);
	EVP_MD_free(h->sha256);
	free(h);
}

/* SHA-256(a || b || c) */
static bool hash(struct digest_hasher *h, const void *a, size_t a_len, const void *b, size_t b_len, const void *c, size_t c_len,
		 unsigned char out[DIGEST_SIZE])
{
	return EVP_DigestInit_ex2(h->context, h->sha256, NULL) && EVP_DigestUpdate(h->context, a, a_len) &&
	       EVP_DigestUpdate(h->context, b, b_len) && EVP_DigestUpdate(h->context, c, c_len) &&
	       EVP_DigestFinal_ex(h->context, out, NULL);
}

bool digest_all_zero(const void *data, size_t len)
{
	const unsigned char *p = data;

	/* The first bytes decide most cases; then a block equals itself shifted by one word when it is all zero. */
	if (len < 16) {
		for (size_t i = 0; i < len; i++)
			if (p[i])
				return false;
		return true;
	}
	for (size_t i = 0; i < 16; i++)
		if (p[i])
			return false;
	return !memcmp(p, p + 16, len - 16);
}

void digest_map_block(struct digest_map *map, const void *block, size_t len)
{
	const unsigned char *p = block;

	*map = (struct digest_map){ 0 };
	for (size_t step = 0, at = 0; at < len; step++, at += DIGEST_STEP)
		if (!digest_all_zero(p + at, len - at < DIGEST_STEP ? len - at : DIGEST_STEP))
			map->data[step / 64] |= UINT64_C(1) << (step % 64);
}

/* How many of the messages that are left are hashed at once; 1: by OpenSSL. Lanes that nothing is in cost as much as full ones. */
static size_t lanes_for(const struct digest_hasher *h, size_t left)
{
	if (h->wide && left >= (h->lanes ? WIDE_MIN : 2))
		return SHA256_WIDE;
	return h->lanes && left > 1 ? SHA256_LANES : 1;
}

/* Hashes messages of one length side by side as far as that goes. Outputs lie apart from the messages. */
static bool hash_many(struct digest_hasher *h, const unsigned char *const messages[], unsigned char *const out[], size_t count, size_t len,
		      unsigned char suffix)
{
	for (size_t i = 0, n; i < count; i += n) {
		size_t lanes = lanes_for(h, count - i);
		const unsigned char *data[SHA256_WIDE];
		unsigned char sums[SHA256_WIDE][DIGEST_SIZE];

		n = count - i < lanes ? count - i : lanes;
		for (size_t l = 0; l < lanes; l++)
			data[l] = messages[i + (l < n ? l : 0)];
		if (lanes == SHA256_WIDE)
			sha256_wide(data, len, suffix, sums);
		else if (lanes == SHA256_LANES)
			sha256_lanes(data, len, suffix, sums);
		else if (!hash(h, messages[i], len, &suffix, 1, "", 0, sums[0]))
			return false;
		for (size_t l = 0; l < n; l++)
			memcpy(out[i + l], sums[l], DIGEST_SIZE);
	}
	return true;
}

bool digest_block(struct digest_hasher *h, const void *block, size_t len, const struct digest_map *map, unsigned char node[DIGEST_SIZE])
{
	unsigned char nodes[LEAVES][DIGEST_SIZE] = { 0 }, parents[LEAVES / 2][DIGEST_SIZE];
	const unsigned char *messages[LEAVES], *p = block;
	unsigned char *out[LEAVES], suffix = OF_LEAF;
	size_t count = 0;

	for (size_t leaf = 0, at = 0; at < len; leaf++, at += DIGEST_LEAF) {
		size_t step = leaf * STEPS_OF_LEAF, n = len - at;

		if (!(map->data[step / 64] >> (step % 64) & ((UINT64_C(1) << STEPS_OF_LEAF) - 1)))
			continue;
		if (n < DIGEST_LEAF) {
			if (!hash(h, p + at, n, &suffix, 1, "", 0, nodes[leaf]))
				return false;
			continue;
		}
		messages[count] = p + at;
		out[count++] = nodes[leaf];
	}
	if (!hash_many(h, messages, out, count, DIGEST_LEAF, OF_LEAF))
		return false;
	for (size_t width = LEAVES / 2; width; width /= 2) {
		memset(parents, 0, sizeof parents);
		count = 0;
		for (size_t i = 0; i < width; i++) {
			if (!memcmp(nodes[2 * i], zero_node, DIGEST_SIZE) && !memcmp(nodes[2 * i + 1], zero_node, DIGEST_SIZE))
				continue;
			messages[count] = nodes[2 * i];
			out[count++] = parents[i];
		}
		if (!hash_many(h, messages, out, count, 2 * (size_t)DIGEST_SIZE, OF_NODE))
			return false;
		memcpy(nodes, parents, width * DIGEST_SIZE);
	}
	memcpy(node, nodes[0], DIGEST_SIZE);
	return true;
}

static void combine(struct digest_tree *tree, const unsigned char *left, const unsigned char *right, unsigned char out[DIGEST_SIZE])
{
	unsigned char node[DIGEST_SIZE] = { 0 }, suffix = OF_NODE;

	if ((memcmp(left, zero_node, DIGEST_SIZE) || memcmp(right, zero_node, DIGEST_SIZE)) &&
	    !hash(tree->hasher, left, DIGEST_SIZE, right, DIGEST_SIZE, &suffix, 1, node))
		tree->failed = true;
	memcpy(out, node, DIGEST_SIZE);
}

/* Puts in a complete subtree of 2^level blocks. */
static void add_subtree(struct digest_tree *tree, unsigned level, const unsigned char node_in[DIGEST_SIZE])
{
	unsigned char node[DIGEST_SIZE];

	tree->next += UINT64_C(1) << level;
	memcpy(node, node_in, DIGEST_SIZE);
	for (; tree->has[level]; level++) {
		tree->has[level] = false;
		combine(tree, tree->pending[level], node, node);
	}
	memcpy(tree->pending[level], node, DIGEST_SIZE);
	tree->has[level] = true;
}

void digest_tree_add(struct digest_tree *tree, uint64_t index, const unsigned char node[DIGEST_SIZE])
{
	while (tree->next < index) {
		/* the largest zero subtree that starts here and does not go beyond */
		unsigned level = 0;

		while (level < 62 && !(tree->next & ((UINT64_C(2) << level) - 1)) && (UINT64_C(2) << level) <= index - tree->next)
			level++;
		add_subtree(tree, level, zero_node);
	}
	add_subtree(tree, 0, node);
}

int digest_tree_finish(struct digest_tree *tree, uint64_t capacity, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	uint64_t blocks = capacity / DISK_DIGEST_BLOCK + (capacity % DISK_DIGEST_BLOCK != 0);
	unsigned char root[DIGEST_SIZE] = { 0 }, size[8], sum[DIGEST_SIZE];
	static const char head[] = "vm-import-controller disk digest v2\n";
	unsigned top = 0;
	bool have = false;

	if (blocks > tree->next)
		digest_tree_add(tree, blocks - 1, zero_node);
	while (top < 63 && (UINT64_C(1) << top) < blocks)
		top++;
	/* From the bottom: a left node without a right sibling gets a zero one, up to the root. */
	for (unsigned level = 0; level <= top; level++) {
		const unsigned char *left = tree->has[level] ? tree->pending[level] : NULL;

		if (left && have)
			combine(tree, left, root, root);
		else if (left && level < top)
			combine(tree, left, zero_node, root);
		else if (left)
			memcpy(root, left, DIGEST_SIZE);
		else if (have && level < top)
			combine(tree, root, zero_node, root);
		have = have || left;
	}
	for (int i = 0; i < 8; i++)
		size[i] = (unsigned char)(capacity >> (56 - 8 * i));
	if (tree->failed || !hash(tree->hasher, head, sizeof head - 1, size, sizeof size, root, sizeof root, sum))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
	strcpy(out, "vmid2:");
	for (int i = 0; i < DIGEST_SIZE; i++)
		sprintf(out + 6 + 2 * (size_t)i, "%02x", sum[i]);
	return 0;
}
