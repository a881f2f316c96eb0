//! Signatures by `crypto::install()`'s provider against the vectors of RFC 7515 appendix A and RFC 8037 appendix A.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{sign, verify};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Value, json};

/// RFC 7515 §A.1.1: the payload of the first three examples.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn bytes(base64url: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(base64url).unwrap()
}

fn public(jwk: Value) -> DecodingKey {
    DecodingKey::from_jwk(&serde_json::from_value::<Jwk>(jwk).unwrap()).unwrap()
}

/// Verifies the vector, and that one changed bit of the signature or another message does not pass.
fn verifies(message: &str, signature: &str, key: &DecodingKey, algorithm: Algorithm) {
    bursar::crypto::install();
    let mut broken = bytes(signature);
    broken[7] ^= 1;
    assert!(verify(signature, message.as_bytes(), key, algorithm).unwrap());
    assert!(!verify(&URL_SAFE_NO_PAD.encode(broken), message.as_bytes(), key, algorithm).unwrap());
    assert!(!verify(signature, b"another", key, algorithm).unwrap());
}

#[test]
fn hs256_is_rfc_7515_a1() {
    let secret = bytes("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let message = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}");
    let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    verifies(&message, signature, &DecodingKey::from_secret(&secret), Algorithm::HS256);
    assert_eq!(sign(message.as_bytes(), &EncodingKey::from_secret(&secret), Algorithm::HS256).unwrap(), signature);
}

/// RFC 7515 §A.2.1: a published key, for this test and nothing else.
const RSA: [&str; 8] = [
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "AQAB",
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
];

/// RFC 8017 §A.1.2: version 0 and the eight numbers, as DER.
fn pkcs1() -> Vec<u8> {
    let tagged = |tag: u8, content: Vec<u8>| {
        let length = content.len().to_be_bytes();
        let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
        let form = if content.len() < 128 { vec![] } else { vec![0x80 | u8::try_from(length.len()).unwrap()] };
        [vec![tag], form, length, content].concat()
    };
    let integer = |number: Vec<u8>| {
        let sign = if number[0] < 128 { vec![] } else { vec![0] };
        tagged(2, [sign, number].concat())
    };
    let numbers = RSA.iter().map(|number| integer(bytes(number)));
    tagged(0x30, [vec![2, 1, 0], numbers.collect::<Vec<_>>().concat()].concat())
}

#[test]
fn rs256_is_rfc_7515_a2() {
    let message = format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}");
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    verifies(&message, signature, &public(json!({"kty": "RSA", "n": RSA[0], "e": RSA[1]})), Algorithm::RS256);
    let private = EncodingKey::from_rsa_der(&pkcs1());
    assert_eq!(sign(message.as_bytes(), &private, Algorithm::RS256).unwrap(), signature);
}

#[test]
fn ps256_verifies_what_it_signed() {
    bursar::crypto::install();
    let signature = sign(b"message", &EncodingKey::from_rsa_der(&pkcs1()), Algorithm::PS256).unwrap();
    verifies("message", &signature, &public(json!({"kty": "RSA", "n": RSA[0], "e": RSA[1]})), Algorithm::PS256);
}

#[test]
fn es256_is_rfc_7515_a3() {
    let key = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    verifies(&format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}"), signature, &public(key), Algorithm::ES256);
}

#[test]
fn eddsa_is_rfc_8037_a4() {
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    verifies(message, signature, &public(json!({"kty": "OKP", "crv": "Ed25519", "x": x})), Algorithm::EdDSA);
    // RFC 8410 §7: PKCS #8 version 1 around the seed, as OpenSSL writes it.
    let pkcs8 = [
        &[0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20][..],
        &bytes("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"),
    ]
    .concat();
    let private = EncodingKey::from_ed_der(&pkcs8);
    assert_eq!(sign(message.as_bytes(), &private, Algorithm::EdDSA).unwrap(), signature);
    let jwk = Jwk::from_encoding_key(&private, Algorithm::EdDSA).unwrap();
    // RFC 8037 §A.3.
    assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_made_key_signs_and_its_jwk_verifies() {
    bursar::crypto::install();
    for (curve, algorithm) in
        [(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256), (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384)]
    {
        let pair = rcgen::KeyPair::generate_for(curve).unwrap();
        let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let public = DecodingKey::from_jwk(&Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        verifies("message", &sign(b"message", &private, algorithm).unwrap(), &public, algorithm);
    }
}

#[test]
fn a_key_of_another_family_and_an_algorithm_that_is_not_built_are_refused() {
    bursar::crypto::install();
    let secret = EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    assert!(sign(b"message", &secret, Algorithm::ES256).is_err());
    assert!(sign(b"message", &secret, Algorithm::HS512).is_err());
    // The classical confusion: a public key taken as an HMAC secret.
    let public = public(json!({"kty": "RSA", "n": RSA[0], "e": RSA[1]}));
    assert!(verify("AAAA", b"message", &public, Algorithm::HS256).is_err());
}
