/* The manifest of an OVF package (.mf), and who signed it (.cert). No I/O.
 *
 * Source of the format: DMTF DSP0243 2.1, section 7 (package): lines "SHA256(file name)= hex digits"; in a .cert the same form with the manifest's
 * name and its RSA signature, and then a certificate in PEM form. */
#pragma once

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define MANIFEST_MAX_BYTES (4u << 20)

struct manifest;

struct ovf_manifest_entry {
	char *name;
	const EVP_MD *algorithm;
	unsigned char digest[EVP_MAX_MD_SIZE];
	size_t digest_len;
};

/* Permanent InvalidManifest when a line is not understood or a file has two digests. */
struct manifest *ovf_manifest_parse(const char *text, size_t len, struct error **err);
void ovf_manifest_free(struct manifest *manifest); /* accepts NULL */
/* NULL when the manifest does not name the file. */
/* The i-th entry; NULL: there is none. manifest may be NULL. */
const struct ovf_manifest_entry *ovf_manifest_entry(const struct manifest *manifest, size_t i);
const struct ovf_manifest_entry *ovf_manifest_find(const struct manifest *manifest, const char *name);
/* Compares; permanent ManifestMismatch, with both digests. */
int ovf_manifest_check(const struct ovf_manifest_entry *entry, const unsigned char *digest, struct error **err);

/* What a .cert says about a manifest, as a sentence for people in *out (owned): who signed it, whose chain nobody checked. Permanent
 * ManifestMismatch when the signature is not of this manifest. What cannot be read is no error, but said. */
int ovf_manifest_check_signature(const char *cert, size_t cert_len, const char *manifest, size_t manifest_len, char **out,
				 struct error **err);

DEFINE_CLEANUP(struct manifest, ovf_manifest_free_p, ovf_manifest_free)
#define AUTO_MANIFEST CLEANUP(ovf_manifest_free_p)
