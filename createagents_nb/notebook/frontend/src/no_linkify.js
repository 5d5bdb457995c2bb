/** Replaces `linkify-it` in the bundle: markdown-it imports it but never uses it while `linkify` is off. */
export default class NoLinkify {}
