import { fail, type ApiError } from '../../core/errors.ts'

/** RFC 6750: what a client must bring, and what was wrong with what it brought. Never a part of the credential. */
const realm = 'Bearer realm="open-autoglm"'

/** Nothing was shown. Such an answer names no error: the client may not have known that it must. */
export const missingCredential = (): ApiError =>
  fail('unauthorized', {
    message: 'A key or a token is needed: send it as `authorization: Bearer …`.',
    headers: { 'www-authenticate': realm },
  })

/** `reason` is a whole sentence in plain letters: it stands in a header too. */
export const badCredential = (reason: string): ApiError =>
  fail('unauthorized', {
    message: reason,
    headers: { 'www-authenticate': `${realm}, error="invalid_token", error_description="${reason}"` },
  })

/** The credential is good, and not for this. */
export const missingPermission = (message: string, scope: readonly string[]): ApiError =>
  fail('forbidden', {
    message,
    headers: { 'www-authenticate': `${realm}, error="insufficient_scope", scope="${scope.join(' ')}"` },
  })
