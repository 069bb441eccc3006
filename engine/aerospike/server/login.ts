/** Who may connect. */
export interface Login {
  answer(body: Buffer): Promise<{ reply: Buffer; isAuthenticated: boolean | undefined }>;
}
