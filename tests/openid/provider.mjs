// An OpenID provider (node-oidc-provider). It reads its configuration from one line on stdin:
// {port, keys (private JWKs), audience, admins (client ids), lifetime (seconds)}
// and prints its issuer when it listens. Each client id is a user: the secret is the id.
import { createInterface } from 'node:readline'
import Provider from 'oidc-provider'

const line = await new Promise((resolve) => createInterface({ input: process.stdin }).once('line', resolve))
const { port, keys, audience, clients, admins, lifetime } = JSON.parse(line)
const issuer = `http://127.0.0.1:${port}`
const provider = new Provider(issuer, {
  clients: clients.map((id) => ({
    client_id: id,
    client_secret: id,
    id_token_signed_response_alg: keys[0].alg,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  jwks: { keys },
  extraTokenClaims: (_context, token) => ({
    realm_access: { roles: admins.includes(token.clientId) ? ['user', 'admin'] : ['user'] },
  }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: 'chat',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: lifetime,
        jwt: { sign: { alg: keys[0].alg } },
      }),
    },
  },
})
provider.listen(port, '127.0.0.1', () => console.log(issuer, audience))
