//! Our JWTs read by an independent library (Python's joserfc), and its JWTs by ours.

use std::process::Command;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};

use crate::peers::installed;

/// Makes keys of each kind, and for each algorithm a private key as PEM, its public JWK and a JWT.
const MAKE: &str = r#"
import json
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
rsa = RSAKey.generate_key(2048)
keys = {'ES256': ECKey.generate_key('P-256'), 'ES384': ECKey.generate_key('P-384'),
        'EdDSA': OKPKey.generate_key('Ed25519'), 'RS256': rsa, 'PS256': rsa}
print(json.dumps([{'alg': alg, 'pem': key.as_pem(private=True).decode(), 'jwk': key.as_dict(private=False),
                   'jwt': jwt.encode({'alg': alg}, {'sub': 'theirs'}, key, algorithms=[alg])} for alg, key in keys.items()]))
"#;

/// Reads the JWT of argument 3 with the JWK of argument 2 by the algorithm of argument 1.
const READ: &str = r#"
import json, sys
from joserfc import jwt
from joserfc.jwk import import_key
print(json.dumps(jwt.decode(sys.argv[3], import_key(json.loads(sys.argv[2])), algorithms=[sys.argv[1]]).claims))
"#;

fn python(arguments: &[&str]) -> Value {
    let output =
        Command::new(installed("py/bin/python")).args(["-W", "ignore", "-c"]).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn private_key(algorithm: Algorithm, pem: &str) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
        other => {
            assert!(matches!(other, Algorithm::RS256 | Algorithm::PS256));
            EncodingKey::from_rsa_pem(pem.as_bytes())
        }
    }
    .unwrap()
}

#[test]
fn each_side_reads_what_the_other_signed() {
    bursar::crypto::install();
    for made in python(&[MAKE]).as_array().unwrap() {
        let text = |name: &str| made[name].as_str().unwrap();
        let algorithm: Algorithm = text("alg").parse().unwrap();
        let private = private_key(algorithm, text("pem"));

        let jwk: Jwk = serde_json::from_value(made["jwk"].clone()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let theirs = decode::<Value>(text("jwt"), &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap();
        assert_eq!(theirs.claims, json!({"sub": "theirs"}), "{algorithm:?}");

        let ours = encode(&Header::new(algorithm), &json!({"sub": "ours"}), &private).unwrap();
        let public = serde_json::to_string(&Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        assert_eq!(python(&[READ, text("alg"), &public, &ours]), json!({"sub": "ours"}), "{algorithm:?}");
    }
}
